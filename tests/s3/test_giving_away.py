"""A finished run is compressed, read, exported, imported and tidied up in a bucket of a real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from edc_ray.artifacts.proof.manifest import verify_run
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.data.condensed.images import CondensedImages, CondensedViews, open_stage
from edc_ray.data.condensed.stream import CondensedDataset, ViewBatch
from edc_ray.sharing.compress import compress_run
from edc_ray.sharing.export.options import FORMATS, ExportOptions, Format
from edc_ray.sharing.export.run import export_run
from tests.artifacts.storage.test_pending_uploads import begin
from tests.e2e.command_line import CommandLine

pytestmark = pytest.mark.s3
# What the tiny run of tests/conftest.py is made of.
DIGITS = ["digits", "dataset.num_classes=10", "dataset.channels=1", "dataset.mean=[0.3]", "dataset.std=[0.4]"]
STAGES = ("recover", "relabel")


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command prints that ends well."""
    command = CommandLine(monkeypatch, capsys)

    def asked(*words: str) -> str:
        ended = command(*words)
        assert ended.status == 0, ended.err
        return ended.out

    return asked


@pytest.fixture
def run_url(ceph_url: str, tiny_run: Path) -> str:
    """A copy of the tiny run in the bucket."""
    store = open_store(f"{ceph_url}/digits")
    for path in sorted(tiny_run.rglob("*")):
        if path.is_file() and path.parent.name != "report":
            store.publish(path.relative_to(tiny_run).as_posix(), path.read_bytes())
    return store.url


def contents(url: str) -> dict[str, bytes]:
    store = open_store(url, writable=False)
    return {path: store.read(path) for path in store.list()}


def _same(one: list[ViewBatch], other: list[ViewBatch]) -> bool:
    return len(one) == len(other) and all(
        x[3:] == y[3:] and all(map(torch.equal, x[:3], y[:3])) for x, y in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("codec", ["fp16", "pca4"])
def test_a_compressed_copy_in_the_bucket_gives_the_batches_of_one_on_disk(
    ask: Callable[..., str], run_url: str, tiny_run: Path, tmp_path: Path, codec: str
) -> None:
    here, cache = str(tmp_path / "here"), tmp_path / "cache"
    compress_run(str(tiny_run), here, codec=codec, keep_epochs=1)
    for _ in range(2):  # the second call finds everything done
        told = ask("compress", run_url, "--codec", codec, "--keep-epochs", "1")
        assert told.startswith(f"{run_url}-{codec}-e1: labels of 1 of 2 epochs as {codec}")
    there = f"{run_url}-{codec}-e1"
    assert ask("verify", there) == f"{there}: sound\n"
    expected = list(CondensedDataset(here, batch_size=4, num_epochs=2))
    for folder in (None, str(cache), str(cache)):  # from memory, while copies are made, and from these
        dataset = CondensedDataset(there, batch_size=4, num_epochs=2, cache=folder)
        assert _same(list(dataset), expected)
    named = {shard.sha256 for stage in STAGES for shard in open_stage(there, None, stage)[2].shards}
    assert {path.name for path in cache.iterdir() if path.suffix != ".lock"} == named


@pytest.mark.parametrize("cached", [False, True])
def test_workers_of_a_loader_read_from_the_bucket_what_one_process_does(
    run_url: str, tmp_path: Path, cached: bool
) -> None:
    """Forked while the client of S3 is open."""
    cache = str(tmp_path / "cache") if cached else None
    dataset = CondensedDataset(run_url, batch_size=4, cache=cache)
    alone = list(dataset)
    assert _same(list(DataLoader(dataset, batch_size=None, num_workers=2)), alone)


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_is_the_same_bytes_from_and_to_a_bucket(
    ask: Callable[..., str], run_url: str, tiny_run: Path, tmp_path: Path, format: Format
) -> None:
    export_run(str(tiny_run), str(tmp_path / "here"), ExportOptions(format))
    wanted = contents(str(tmp_path / "here"))
    ways = [(run_url, f"{run_url}-out"), (run_url, str(tmp_path / "out")), (str(tiny_run), f"{run_url}-up")]
    for source, dest in ways:
        export_run(source, dest, ExportOptions(format))
        assert contents(dest) == wanted
        if "edc_ray.json" in wanted:
            assert ask("verify", dest) == f"{dest}: sound\n"


@pytest.mark.parametrize("format", ["huggingface", "imagefolder", "webdataset", "official"])
def test_what_lies_in_the_bucket_is_imported_there(
    ask: Callable[..., str], run_url: str, tiny_run: Path, format: str
) -> None:
    out, back = f"{run_url}-out", f"{run_url}-back"
    ask("export", run_url, out, "--format", format)
    labels = ["--labels", f"{out}/labels"] if format == "official" else []
    ask("import", f"{out}/images" if format == "official" else out, back, *DIGITS, *labels)
    assert ask("verify", back) == f"{back}: sound\n"
    assert (CondensedImages(back).images == CondensedImages(str(tiny_run)).images).all()
    if format in ("huggingface", "official"):
        assert (CondensedViews(back).rows.logits == CondensedViews(str(tiny_run)).rows.logits).all()


@pytest.mark.parametrize("command", ["compress", "export"])
def test_gc_takes_what_nothing_names_and_leaves_the_copy_sound(
    ask: Callable[..., str], run_url: str, command: str
) -> None:
    dest = f"{run_url}-copy"
    words = {"compress": ["--codec", "q8", "--dest", dest], "export": [dest, "--format", "huggingface"]}
    ask(command, run_url, *words[command])
    store, before = Store(dest), contents(dest)
    store.publish("labels/epochs-00007-00009.parquet", b"of a killed writer")
    begin(store, "labels/epochs-00000-00001.parquet")
    removed = json.loads(ask("gc", dest, "--older-than", "0s", "--json"))["removed"]
    assert {one["kind"] for one in removed} == {"orphan", "pending upload"}
    assert (contents(dest), store.pending_uploads()) == (before, [])
    assert ask("verify", dest) == f"{dest}: sound\n"
    assert verify_run(store) == []
