from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from edc_ray.artifacts.proof.records import ShardInfo
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.data.condensed.shard_files import open_shard, read_shard_bytes
from edc_ray.errors import ArtifactError

DATA = b"labels" * 1000
SHARD = ShardInfo("one.parquet", len(DATA), hashlib.sha256(DATA).hexdigest(), 1)
PATH = "labels/one.parquet"


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    where = {"local": str(tmp_path / "run"), "memory": f"memory://{tmp_path.name}/run"}
    store = open_store(where.get(request.param) or request.getfixturevalue("s3_url"))
    store.publish(PATH, DATA)
    return store


@pytest.fixture
def remote(s3_url: str) -> Store:
    store = open_store(s3_url)
    store.publish(PATH, DATA)
    return store


def _refuses_damage(store: Store, cache: str | None) -> None:
    for damaged in (DATA[:-1], DATA[:-1] + b"!"):
        store.publish(PATH, damaged, replace=True)
        with pytest.raises(ArtifactError, match=r"labels/one.parquet is damaged"):
            open_shard(store, "labels", SHARD, cache)
    store.delete(PATH)
    with pytest.raises(ArtifactError, match=r"labels/one.parquet is missing"):
        open_shard(store, "labels", SHARD, cache)


@pytest.mark.parametrize("cached", [False, True])
def test_the_recorded_bytes_are_read_and_no_others(store: Store, tmp_path: Path, cached: bool) -> None:
    cache = str(tmp_path / "cache") if cached else None
    assert read_shard_bytes(store, "labels", SHARD, cache) == DATA
    _refuses_damage(store, None)


def test_damage_is_refused_where_there_is_no_copy_yet_and_leaves_none(remote: Store, tmp_path: Path) -> None:
    _refuses_damage(remote, str(tmp_path))
    assert not list(tmp_path.glob("[0-9a-f]*[0-9a-f]")), "a copy of the wrong bytes stayed"


def test_a_remote_file_is_fetched_once(remote: Store, tmp_path: Path) -> None:
    cache = str(tmp_path / "new" / "cache")
    assert read_shard_bytes(remote, "labels", SHARD, cache) == DATA
    remote.delete(PATH)
    assert read_shard_bytes(remote, "labels", SHARD, cache) == DATA


@pytest.mark.parametrize("wrong", [b"", DATA[:100], DATA[:-1] + b"!"], ids=["empty", "short", "changed"])
def test_a_copy_with_other_bytes_is_fetched_again(remote: Store, tmp_path: Path, wrong: bytes) -> None:
    (tmp_path / SHARD.sha256).write_bytes(wrong)
    assert read_shard_bytes(remote, "labels", SHARD, str(tmp_path)) == DATA
    assert (tmp_path / SHARD.sha256).read_bytes() == DATA


def test_many_readers_at_once_fetch_one_copy(
    remote: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched, copy = [], Store.copy
    monkeypatch.setattr(Store, "copy", lambda *args: (fetched.append(1), copy(*args))[1])
    found: list[bytes] = []
    readers = [
        threading.Thread(
            target=lambda: found.append(read_shard_bytes(remote, "labels", SHARD, str(tmp_path)))
        )
        for _ in range(6)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert (found, len(fetched)) == ([DATA] * 6, 1)


@pytest.mark.parametrize("sha256", ["../../escaped", "", "A" * 64, "0" * 63])
def test_a_hash_that_is_none_never_becomes_a_files_name(remote: Store, tmp_path: Path, sha256: str) -> None:
    with pytest.raises(ArtifactError, match="has no sha256"):
        open_shard(remote, "labels", replace(SHARD, sha256=sha256), str(tmp_path / "a" / "b"))
    assert not list(tmp_path.iterdir())
