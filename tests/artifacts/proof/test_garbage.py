from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edc_ray.artifacts.proof.garbage import Findings, find_garbage, parse_age, remove_garbage
from edc_ray.artifacts.proof.manifest import read_record, verify_run, write_manifest, write_unit
from edc_ray.artifacts.proof.records import Record
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.run import STAGE_NAMES
from edc_ray.errors import ArtifactError, ConfigError
from tests.artifacts.storage.test_pending_uploads import begin
from tests.fuzz.mutations import without_digest

PRINT = "fingerprint-1"
DATASET = {"name": "pets", "class_names": ["cat", "dog"]}


def unit(store: Store, folder: str, key: str) -> Record:
    return write_unit(store, folder, key, PRINT, {f"{key}.parquet": (key.encode(), 1)})


@pytest.fixture
def run(store: Store) -> Store:
    """A run with one complete stage, and one stage with one finished unit."""
    store.publish("run.yaml", b"method: edc\n")
    store.publish("data.json", b"{}")
    records = [unit(store, "condensed", key) for key in ("u0", "u1")]
    write_manifest(store, "condensed", records, fingerprint=PRINT, dataset=DATASET)
    write_unit(store, "labels", "e0", PRINT, {"e0.parquet": (b"labels", 1)})
    store.publish("report/report.html", b"<html>")
    return store


def paths(found: Findings) -> list[tuple[str, str]]:
    return [(one.kind, one.path) for one in found.garbage]


def test_what_a_manifest_or_record_names_is_never_garbage(run: Store) -> None:
    assert find_garbage(run, 0, STAGE_NAMES) == Findings((), 0, {}, run.url.startswith("s3://"))


def test_shards_that_no_record_names_go_and_the_rest_stays(run: Store) -> None:
    before = run.list()
    run.publish("labels/e1.parquet", b"half a unit")
    run.publish("squeeze/convnet_d1.safetensors", b"killed before the first record of the stage")
    found = find_garbage(run, 0, STAGE_NAMES)
    assert paths(found) == [("orphan", "labels/e1.parquet"), ("orphan", "squeeze/convnet_d1.safetensors")]
    assert run.list() != before
    assert remove_garbage(run, found.garbage, 0) == list(found.garbage)
    assert run.list() == before
    assert verify_run(run) == []
    assert find_garbage(run, 0, STAGE_NAMES).garbage == ()


def test_a_trial_of_a_sweep_is_a_run_of_its_own(run: Store) -> None:
    for path in ("sweep/t0/run.yaml", "sweep/t0/data.json", "sweep/t0/init/u0.parquet", "sweep/log.json"):
        run.publish(path, b"x")
    assert paths(find_garbage(run, 0, STAGE_NAMES)) == [("orphan", "sweep/t0/init/u0.parquet")]


@pytest.mark.parametrize(
    "path", ["labels/notes.txt", "labels/deeper/x.parquet", "mine/x.parquet", "x.parquet", "report/x.parquet"]
)
def test_what_this_program_does_not_write_is_not_its_to_remove(run: Store, path: str) -> None:
    run.publish(path, b"somebody's")
    assert find_garbage(run, 0, STAGE_NAMES).garbage == ()


def test_a_folder_that_is_no_run_loses_nothing(store: Store) -> None:
    for path in ("labels/a.parquet", "init/b.npz", "run.yaml"):
        store.publish(path, b"somebody's data")
    assert find_garbage(store, 0, STAGE_NAMES).garbage == ()


def test_what_is_younger_than_the_limit_may_be_in_the_making(run: Store) -> None:
    run.publish("labels/e1.parquet", b"a writer has just written this")
    found = find_garbage(run, 3600, STAGE_NAMES)
    assert (found.garbage, found.young) == ((), 1)
    (orphan,) = find_garbage(run, 0, STAGE_NAMES).garbage
    assert remove_garbage(run, [orphan], 3600) == []
    assert run.exists("labels/e1.parquet")


def test_a_file_of_unknown_age_is_kept(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run.publish("labels/e1.parquet", b"x")
    monkeypatch.setattr(Store, "modified", lambda self, path: None)
    assert (find_garbage(run, 0, STAGE_NAMES).garbage, find_garbage(run, 0, STAGE_NAMES).young) == ((), 1)


def test_a_writer_that_meets_the_bytes_of_a_killed_one_makes_them_young(local_store: Store) -> None:
    local_store.publish("labels/e1.parquet", b"whole, but unnamed")
    os.utime(f"{local_store.url}/labels/e1.parquet", (1, 1))
    write_unit(local_store, "labels", "e1", PRINT, {"e1.parquet": (b"whole, but unnamed", 1)})
    assert time.time() - (local_store.modified("labels/e1.parquet") or 0) < 60
    assert read_record(local_store, "labels", "e1", PRINT) is not None


def _age(store: Store, path: str) -> None:
    os.utime(f"{store.url}/{path}", (1, 1))


@pytest.mark.parametrize(("folder", "goes"), [("condensed", True), ("squeeze", False), ("results", False)])
def test_a_unit_that_a_later_manifest_left_out_goes_where_folders_are_read_whole(
    local_store: Store, folder: str, goes: bool
) -> None:
    kept, _ = (unit(local_store, folder, key) for key in ("u0", "u1"))
    write_manifest(local_store, folder, [kept], fingerprint=PRINT, dataset=DATASET)
    _age(local_store, f"{folder}/records/u1.json")
    unit(local_store, folder, "u2")
    expected = [("orphan", f"{folder}/records/u1.json"), ("orphan", f"{folder}/u1.parquet")] if goes else []
    assert paths(find_garbage(local_store, 0, STAGE_NAMES)) == expected  # u2 belongs to a run that grows


def _cut(run: Store, path: str) -> None:
    run.publish(path, run.read(path)[:-5], replace=True)


def _name_no_file(run: Store, path: str) -> None:
    raw = without_digest(run.read(path))
    record = raw["records"][0] if "records" in raw else raw
    forged = raw | {"unit": "../x", "records": [record | {"unit": "../x"}]}
    run.publish(path, json.dumps(forged).encode(), replace=True)


@pytest.mark.parametrize("damage", [_cut, _name_no_file])
@pytest.mark.parametrize("path", ["condensed/manifest.json", "labels/records/e0.json"])
def test_a_stage_is_left_alone_where_it_cannot_be_known_what_is_named(
    run: Store, path: str, damage: Callable[[Store, str], None]
) -> None:
    folder = path.partition("/")[0]
    run.publish(f"{folder}/orphan.parquet", b"x")
    damage(run, path)
    found = find_garbage(run, 0, STAGE_NAMES)
    assert found.garbage == ()
    assert list(found.left_alone) == [folder]
    assert path in found.left_alone[folder]


def test_what_a_newer_version_wrote_is_not_judged(run: Store) -> None:
    raw = json.loads(run.read("labels/records/e0.json")) | {"schema_version": 99}
    run.publish("labels/records/e1.json", json.dumps(raw).encode())
    with pytest.raises(ArtifactError, match="newer edc-ray"):
        find_garbage(run, 0, STAGE_NAMES)


def test_temporary_files_and_probes_go(local_store: Store) -> None:
    local_store.publish("labels/e0.parquet", b"x")
    folder = Path(local_store.url)
    (folder / "labels" / ".e1.parquet.0123.tmp~").write_bytes(b"half")
    (folder / ".edc-ray-probe-0123").write_bytes(b"probe")
    assert local_store.list() == ["labels/e0.parquet"]
    found = find_garbage(local_store, 0, STAGE_NAMES)
    assert paths(found) == [
        ("temporary file", ".edc-ray-probe-0123"),
        ("temporary file", "labels/.e1.parquet.0123.tmp~"),
    ]
    remove_garbage(local_store, found.garbage, 0)
    assert sorted(path.name for path in folder.rglob("*")) == ["e0.parquet", "labels"]


def test_pending_uploads_go(s3_url: str) -> None:
    store = Store(s3_url)
    begin(store, "labels/e1.parquet")
    found = find_garbage(store, 0, STAGE_NAMES)
    assert paths(found) == [("pending upload", "labels/e1.parquet")]
    remove_garbage(store, found.garbage, 0)
    assert store.pending_uploads() == []


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5m", 90), ("1h", 3600), ("2d", 172800)])
def test_an_age_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1 week", "1h30m", "nan"])
def test_anything_else_is_no_age(text: str) -> None:
    with pytest.raises(ConfigError, match="is no age"):
        parse_age(text)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("folder", ["init", "labels", "labels/records"])
def test_a_stage_folder_that_is_a_link_is_refused_and_nothing_goes(
    local_store: Store, tmp_path: Path, folder: str, inside: bool
) -> None:
    """Through a link to another stage, the files that this stage's manifest names would look like orphans."""
    local_store.publish("condensed/u0.parquet", b"named by its own manifest")
    local_store.publish("condensed/records/u0.json", b"its record")
    target = tmp_path / "run" / "condensed" if inside else tmp_path / "somebody's"
    target.mkdir(exist_ok=True)
    for name in ("a.parquet", ".b.parquet.0.tmp~"):
        (target / name).write_bytes(b"data")
    before = sorted(path for path in target.rglob("*"))
    link = tmp_path / "run" / folder
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target)
    with pytest.raises(ArtifactError, match=f"run/{folder} is a symbolic link"):
        remove_garbage(local_store, find_garbage(local_store, 0, STAGE_NAMES).garbage, 0)
    assert sorted(path for path in target.rglob("*")) == before


def test_behind_a_link_to_other_runs_nothing_goes(run: Store, tmp_path: Path) -> None:
    if not run.is_local:
        pytest.skip("links are of local files")
    other = Store(str(tmp_path / "other"))
    for path in ("run.yaml", "data.json", "init/c.parquet"):
        other.publish(f"t0/{path}", b"x")
    (tmp_path / "run" / "sweep").symlink_to(tmp_path / "other")
    assert find_garbage(run, 0, STAGE_NAMES).garbage == ()
    assert paths(find_garbage(other, 0, STAGE_NAMES)) == [("orphan", "t0/init/c.parquet")]


def test_a_run_that_is_reached_by_a_link_is_cleaned_as_any_other(local_store: Store, tmp_path: Path) -> None:
    local_store.publish("run.yaml", b"method: edc\n")
    local_store.publish("data.json", b"{}")
    local_store.publish("labels/e1.parquet", b"half a unit")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    assert paths(find_garbage(Store(str(tmp_path / "link")), 0, STAGE_NAMES)) == [
        ("orphan", "labels/e1.parquet")
    ]
