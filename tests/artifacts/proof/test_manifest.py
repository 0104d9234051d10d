from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from edc_ray.artifacts.proof.manifest import (
    Manifest,
    Record,
    copy_units,
    manifest_is_intact,
    read_manifest,
    read_record,
    read_shard,
    verify_run,
    write_manifest,
    write_unit,
)
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.errors import ArtifactError
from tests.fuzz.mutations import without_digest

FOLDER, KEY, PRINT = "condensed", "u0", "fingerprint-1"
RECORD_PATH, MANIFEST_PATH = "condensed/records/u0.json", "condensed/manifest.json"


def _write(store: Store, content: bytes = b"pixels", fingerprint: str = PRINT, key: str = KEY) -> Record:
    return write_unit(store, FOLDER, key, fingerprint, {f"{key}.parquet": (content, 2)}, {"loss": 0.5}, 1.5)


def _finish(store: Store, *records: Record, fingerprint: str = PRINT) -> Manifest:
    dataset = {"name": "pets", "class_names": ["cat", "dog"]}
    return write_manifest(
        store,
        FOLDER,
        records,
        fingerprint=fingerprint,
        config_digest="c",
        dataset=dataset,
        meta={"mean": [0.5]},
    )


def test_a_written_unit_is_read_back(store: Store) -> None:
    record = _write(store)
    assert record.stage == "recover"
    assert read_record(store, FOLDER, KEY, PRINT) == record
    assert read_shard(store, FOLDER, record.shards[0]) == b"pixels"
    assert store.list() == [RECORD_PATH, "condensed/u0.parquet"]


def test_a_copied_unit_has_one_table_under_its_own_name(store: Store, local_store: Store) -> None:
    tables = {"theirs/x.parquet": (b"pixels", 2)}
    record = write_unit(store, FOLDER, KEY, PRINT, tables, {"loss": 0.5}, 1.5)
    (copy,) = copy_units(store, FOLDER, [record], local_store, "other")
    assert [shard.path for shard in copy.shards] == [f"{KEY}.parquet"]
    assert (read_shard(local_store, "other", copy.shards[0]), copy.meta, copy.seconds) == (
        b"pixels", {"loss": 0.5}, 1.5,
    )  # fmt: skip
    two = write_unit(
        store, FOLDER, "u1", PRINT, {"a/x.parquet": (b"a", 1), "b/x.parquet": (b"b", 1)}, {}, 1.0
    )
    with pytest.raises(ArtifactError, match=r"unit u1 of .* has 2 files"):
        copy_units(store, FOLDER, [two], local_store, "other")


def test_a_unit_of_another_fingerprint_or_key_is_not_done(store: Store) -> None:
    _write(store)
    assert read_record(store, FOLDER, KEY, "fingerprint-2") is None
    assert read_record(store, FOLDER, "u1", PRINT) is None
    store.publish("condensed/records/u1.json", store.read(RECORD_PATH))  # copied under another name
    assert read_record(store, FOLDER, "u1", PRINT) is None


def _truncate_shard(store: Store) -> None:
    store.publish("condensed/u0.parquet", b"pix", replace=True)


def _change_shard(store: Store) -> None:
    store.publish("condensed/u0.parquet", b"PIXELS", replace=True)


def _delete_shard(store: Store) -> None:
    store.delete("condensed/u0.parquet")


def _truncate_record(store: Store) -> None:
    store.publish(RECORD_PATH, store.read(RECORD_PATH)[:-20], replace=True)


def _point_outside(store: Store) -> None:
    raw = without_digest(store.read(RECORD_PATH))
    raw["shards"][0]["path"] = "../../secret"
    store.publish(RECORD_PATH, json.dumps(raw).encode(), replace=True)


DAMAGES = [_truncate_shard, _change_shard, _delete_shard, _truncate_record, _point_outside]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_unit_is_not_done_and_is_written_again(
    store: Store, damage: Callable[[Store], None]
) -> None:
    record = _write(store)
    damage(store)
    assert read_record(store, FOLDER, KEY, PRINT) is None
    assert _write(store) == record
    assert read_record(store, FOLDER, KEY, PRINT) == record
    assert verify_run(store) == []


def test_the_loser_of_a_race_gets_the_winners_record(store: Store) -> None:
    winner = _write(store, b"winner")
    assert _write(store, b"loser!") == winner
    assert read_shard(store, FOLDER, winner.shards[0]) == b"winner"


def test_the_second_writer_of_the_same_bytes_gets_the_first_record(store: Store) -> None:
    first = _write(store)
    second = write_unit(store, FOLDER, KEY, PRINT, {"u0.parquet": (b"pixels", 2)}, {"loss": 0.5}, 99.0)
    assert second == first


def test_a_record_never_stands_over_the_bytes_of_another_writer(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(local_store, b"pixels", "fingerprint-0")
    publish, others = Store.publish, [lambda: _write(local_store, b"theirs")]

    def interrupted(self: Store, path: str, data: bytes, *, replace: bool = False) -> bool:
        if path == RECORD_PATH and replace and others:
            others.pop()()  # another writer of this unit begins and ends just before the record is replaced
        return publish(self, path, data, replace=replace)

    monkeypatch.setattr(Store, "publish", interrupted)
    record = _write(local_store, b"pixels")
    assert not others
    assert read_record(local_store, FOLDER, KEY, PRINT) == record
    assert verify_run(local_store) == []


def test_writers_that_never_agree_are_told(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    local_store.publish("condensed/u0.parquet", b"half")
    publish = Store.publish

    def spoiled(self: Store, path: str, data: bytes, *, replace: bool = False) -> bool:
        return publish(self, path, b"spoiled" if path.endswith(".parquet") else data, replace=replace)

    monkeypatch.setattr(Store, "publish", spoiled)
    with pytest.raises(ArtifactError, match="unit 'u0' cannot be settled"):
        _write(local_store)


def test_bytes_without_a_record_are_replaced(store: Store) -> None:
    store.publish("condensed/u0.parquet", b"half")
    record = _write(store)
    assert read_shard(store, FOLDER, record.shards[0]) == b"pixels"


def test_writing_a_unit_of_another_config_removes_the_manifest_that_vouched_for_the_old_bytes(
    store: Store,
) -> None:
    _finish(store, _write(store))
    record = _write(store, b"other!", "fingerprint-2")
    assert read_manifest(store, FOLDER) is None
    assert read_record(store, FOLDER, KEY, "fingerprint-2") == record
    assert read_record(store, FOLDER, KEY, PRINT) is None
    assert verify_run(store) == []


def test_writers_of_the_same_unit_at_once_agree_on_one_record(local_store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        records = list(pool.map(lambda _: _write(local_store), range(4)))
    assert {record.shards for record in records} == {records[0].shards}
    assert read_record(local_store, FOLDER, KEY, PRINT) == records[0]
    assert verify_run(local_store) == []


def test_a_manifest_holds_all_records_in_plan_order(store: Store) -> None:
    records = [_write(store, key=key) for key in ("u1", "u0")]
    assert read_manifest(store, FOLDER) is None
    manifest = _finish(store, *records)
    assert read_manifest(store, FOLDER) == manifest
    assert [shard.path for shard in manifest.shards] == ["u1.parquet", "u0.parquet"]
    assert (manifest.stage, manifest.fingerprint, manifest.meta) == ("recover", PRINT, {"mean": [0.5]})
    assert manifest_is_intact(store, manifest)


def test_a_manifest_of_a_unit_that_vanished_is_refused(store: Store) -> None:
    record = _write(store)
    store.delete("condensed/u0.parquet")
    with pytest.raises(ArtifactError, match="unit 'u0' is no longer in"):
        _finish(store, record)
    assert read_manifest(store, FOLDER) is None


def test_a_manifest_takes_the_record_that_is_stored(store: Store) -> None:
    mine = _write(store)
    store.delete(RECORD_PATH)
    store.delete("condensed/u0.parquet")
    theirs = _write(store, b"theirs")
    assert _finish(store, mine).records == (theirs,)


def test_a_damaged_manifest_is_named(store: Store) -> None:
    _finish(store, _write(store))
    store.publish(MANIFEST_PATH, store.read(MANIFEST_PATH)[:100], replace=True)
    with pytest.raises(ArtifactError, match=r"condensed/manifest\.json is damaged"):
        read_manifest(store, FOLDER)


def test_a_newer_manifest_and_record_ask_for_an_upgrade(store: Store) -> None:
    _finish(store, _write(store))
    for path in (MANIFEST_PATH, RECORD_PATH):
        raw = json.loads(store.read(path)) | {"schema_version": 2}
        store.publish(path, json.dumps(raw).encode(), replace=True)
    with pytest.raises(ArtifactError, match="newer edc-ray"):
        read_manifest(store, FOLDER)
    with pytest.raises(ArtifactError, match="newer edc-ray"):
        read_record(store, FOLDER, KEY, PRINT)
    assert [problem.path for problem in verify_run(store)] == [MANIFEST_PATH, RECORD_PATH]


@pytest.mark.parametrize("damage", [_truncate_shard, _change_shard, _delete_shard])
def test_verify_names_each_damaged_file_once(store: Store, damage: Callable[[Store], None]) -> None:
    manifest = _finish(store, _write(store), _write(store, key="u1"))
    assert verify_run(store) == []
    damage(store)
    (problem,) = verify_run(store)
    assert problem.path == "condensed/u0.parquet"
    assert not manifest_is_intact(store, manifest)
    with pytest.raises(ArtifactError, match=r"u0\.parquet is"):
        read_shard(store, FOLDER, manifest.shards[0])


def test_verify_reports_damaged_json_and_paths_that_leave_the_run(store: Store) -> None:
    _finish(store, _write(store), _write(store, key="u1"))
    _point_outside(store)
    store.publish(MANIFEST_PATH, b"{", replace=True)
    problems = {problem.path: problem.problem for problem in verify_run(store)}
    assert problems == {MANIFEST_PATH: "cannot be parsed", RECORD_PATH: "cannot be parsed"}


CRASH = """
import os, signal, sys
from edc_ray.artifacts.storage import store
from edc_ray.artifacts.proof.manifest import write_unit
url, survive = sys.argv[1], int(sys.argv[2])
real, calls = store.Store.publish, []
def publish(self, path, data, **options):
    if len(calls) == survive:
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(path)
    return real(self, path, data, **options)
target = store.Store(url)
store.Store.publish = publish
write_unit(target, "condensed", "u0", "fingerprint-1", {"a.parquet": (b"aa", 1), "b.parquet": (b"bb", 1)}, {})
"""


@pytest.mark.parametrize("survive", [0, 1, 2])
def test_a_killed_writer_leaves_no_record_and_the_unit_is_written_again(tmp_path, survive: int) -> None:
    store = open_store(str(tmp_path))
    command = [sys.executable, "-c", CRASH, store.url, str(survive)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(store.list()) == survive
    assert read_record(store, FOLDER, KEY, PRINT) is None
    assert verify_run(store) == []
    record = write_unit(store, FOLDER, KEY, PRINT, {"a.parquet": (b"AA", 1), "b.parquet": (b"BB", 1)})
    assert read_record(store, FOLDER, KEY, PRINT) == record
