"""The pipeline and every command that takes a URL, with everything in a bucket of a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edc_ray.artifacts.proof.manifest import verify_run
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.config.load import to_yaml
from edc_ray.config.run import RunConfig
from edc_ray.data.condensed.images import CondensedImages, CondensedViews
from tests.artifacts.storage.test_pending_uploads import begin
from tests.e2e.command_line import CommandLine
from tests.e2e.stored import stored_hashes

pytestmark = pytest.mark.s3
# What the tiny run of tests/conftest.py is made of.
DIGITS = ["digits", "squeeze.observers=[convnet_d1]", "dataset.num_classes=10", "dataset.channels=1"]
COLOURS = ["dataset.mean=[0.3]", "dataset.std=[0.4]"]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def test_every_command_that_takes_a_url_works_on_a_bucket(
    ask: CommandLine,
    ceph: dict[str, str],
    ceph_url: str,
    tiny_config: Callable[..., RunConfig],
    tiny_run: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(to_yaml(tiny_config(tmp_path, **{"storage.root": ceph_url})))
    url, out, back = f"{ceph_url}/digits", f"{ceph_url}/out", f"{ceph_url}/back"
    commands = [
        ["stage", "squeeze", "--config", str(config)],
        ["run", "--config", str(config)],
        ["verify", url],
        ["status", url],
        ["report", url],
        ["export", url, out],
        ["import", f"{out}/images", back, *DIGITS, *COLOURS, "--labels", f"{out}/labels"],
        ["import-statistics", f"{out}/statistics", back, *DIGITS],
        ["verify", back],
        ["gc", url, "--older-than", "0s"],
        ["run", "--config", str(config), "--json"],
    ]
    told = ""
    for words in commands:
        ended = ask(*words)
        told += ended.out + ended.err
        assert ended.status == 0, f"{words}: {ended.err}"
    assert stored_hashes(url) == stored_hashes(tiny_run)
    assert sum(stage["units_done"] for stage in ended.summary["stages"].values()) == 0
    there, here = CondensedImages(url), CondensedImages(str(tiny_run))
    assert (there.images == here.images).all()
    assert (CondensedViews(back).rows.logits == CondensedViews(str(tiny_run)).rows.logits).all()
    stored = Store(ceph_url)
    assert {"digits/run.yaml", "digits/events.jsonl", "digits/report/report.html"} <= set(stored.list())
    _check_no_credentials(ceph, stored, told + caplog.text)


def _check_no_credentials(ceph: dict[str, str], store: Store, told: str) -> None:
    secrets = [ceph["AWS_SECRET_ACCESS_KEY"], ceph["AWS_ACCESS_KEY_ID"]]
    files = {path: store.read(path) for path in store.list()}
    assert files
    for secret in secrets:
        assert secret not in told
        assert [path for path, data in files.items() if secret.encode() in data] == []


def test_a_run_with_a_refused_key_ends_with_status_2_and_shows_no_key(
    ask: CommandLine,
    ceph: dict[str, str],
    ceph_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-servers-secret")
    commands = (["run", "digits", f"storage.root={ceph_url}"], ["verify", ceph_url], ["gc", ceph_url])
    for words in commands:
        ended = ask(*words)
        assert ended.status == 2
        assert f"ArtifactError: cannot {'look for' if words[0] == 'run' else 'list'} {ceph_url}" in ended.err
        told = ended.out + ended.err + caplog.text
        assert "not-the-servers-secret" not in told
        assert ceph["AWS_ACCESS_KEY_ID"] not in told


def test_gc_says_what_it_removes_and_keeps_what_is_young(ask: CommandLine, store: Store) -> None:
    store.publish("run.yaml", b"{}")
    store.publish("data.json", b"{}")
    store.publish("labels/epochs-00000-00001.parquet", b"of a killed writer")
    begin(store, "squeeze/convnet_d1.safetensors")
    young = ask("gc", store.url)
    assert young.status == 0
    assert "nothing to remove\nkept 2 files that a writer may still work on" in young.out
    told = ask("gc", store.url, "--older-than", "0s", "--dry-run")
    assert "would remove 2 leftovers" in told.out
    assert store.exists("labels/epochs-00000-00001.parquet")
    found = json.loads(ask("gc", store.url, "--older-than", "0s", "--json").out)
    assert [(one["kind"], one["path"]) for one in found["removed"]] == [
        ("orphan", "labels/epochs-00000-00001.parquet"),
        ("pending upload", "squeeze/convnet_d1.safetensors"),
    ]
    assert (store.list(), store.pending_uploads()) == (["data.json", "run.yaml"], [])


SPACE = "sweep.space.recover.matching_weight=[0.001,0.01]"


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("words", "stored"), [(["run"], "condensed"), (["sweep", SPACE], "sweep")])
def test_ray_workers_write_to_the_bucket_with_the_environments_credentials(
    ceph: dict[str, str],
    ceph_url: str,
    tiny_config: Callable[..., RunConfig],
    tmp_path: Path,
    words: list[str],
    stored: str,
) -> None:
    on_ray = {"storage.root": ceph_url, "cluster.address": "local", "evaluate.seeds": 1}
    config = tmp_path / "run.yaml"
    config.write_text(to_yaml(tiny_config(tmp_path, **on_ray)))
    command = [str(Path(sys.executable).with_name("edc-ray")), words[0], "--config", str(config)]
    done = subprocess.run([*command, *words[1:], "--quiet"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    store = open_store(f"{ceph_url}/digits", writable=False)
    assert verify_run(store) == []
    assert store.list(stored)
    _check_no_credentials(ceph, store, done.stdout + done.stderr)
