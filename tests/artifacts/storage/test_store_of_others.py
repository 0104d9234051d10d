"""Folders that others have filled: links that lead out, files without end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edc_ray.artifacts.proof.manifest import read_manifest, verify_run, write_manifest, write_unit
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.errors import ArtifactError


def test_a_file_above_the_limit_is_refused_by_name_and_one_at_the_limit_read(store: Store) -> None:
    store.publish("a.json", b"12345")
    store.publish("empty.json", b"")
    assert store.read("a.json", limit=5) == b"12345"
    assert store.read("empty.json", limit=5) == b""
    assert store.read_if_there("none.json", limit=5) is None
    with pytest.raises(ArtifactError, match=r"a\.json is too large"):
        store.read("a.json", limit=4)


def test_a_manifest_of_a_gigabyte_is_refused_without_being_read(local_store: Store) -> None:
    path = Path(local_store.url, "condensed/manifest.json")
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(ArtifactError, match=r"condensed/manifest\.json is too large"):
        read_manifest(local_store, "condensed")
    assert [problem.path for problem in verify_run(local_store)] == ["condensed/manifest.json"]


@pytest.mark.parametrize("target", ["elsewhere/secret", "/dev/zero", "/proc/self/environ"])
def test_a_link_that_leads_out_is_neither_read_nor_deleted(
    tmp_path: Path, local_store: Store, target: str
) -> None:
    secret = tmp_path / "elsewhere" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(b"secret")
    os.symlink(tmp_path / target, Path(local_store.url, "a.json"))
    for use in (local_store.read, local_store.exists, local_store.delete):
        with pytest.raises(ArtifactError, match=r"a\.json leads out of"):
            use("a.json")
    assert secret.read_bytes() == b"secret"


def test_nothing_is_read_written_or_deleted_in_a_folder_behind_a_link(
    tmp_path: Path, local_store: Store
) -> None:
    outside = tmp_path / "photos"
    outside.mkdir()
    (outside / "mine.parquet").write_bytes(b"mine")
    os.symlink(outside, Path(local_store.url, "condensed"))
    with pytest.raises(ArtifactError, match="leads out of"):
        write_unit(local_store, "condensed", "u0", "f", {"a.parquet": (b"a", 1)})
    with pytest.raises(ArtifactError, match="leads out of"):
        local_store.delete("condensed/mine.parquet")
    assert [path.name for path in outside.iterdir()] == ["mine.parquet"]


def test_a_link_inside_of_the_folder_and_a_folder_that_is_one_are_followed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "disk"))
    record = write_unit(store, "condensed", "u0", "f", {"a.parquet": (b"a", 1)})
    write_manifest(store, "condensed", [record], fingerprint="f", dataset={})
    os.symlink(tmp_path / "disk", tmp_path / "run")
    linked = open_store(str(tmp_path / "run"))
    os.symlink("a.parquet", tmp_path / "disk/condensed/b.parquet")
    assert linked.read("condensed/b.parquet") == b"a"
    assert verify_run(linked) == []


def test_a_pipe_is_no_file(local_store: Store) -> None:
    os.mkfifo(Path(local_store.url, "manifest.json"))
    assert read_manifest(local_store, "") is None
