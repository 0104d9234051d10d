"""What a store promises, on a real server."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec.config
import pytest
import s3fs

from edc_ray.artifacts.proof.garbage import find_garbage
from edc_ray.artifacts.proof.manifest import manifest_is_intact, read_manifest, verify_run
from edc_ray.artifacts.storage import store as store_module
from edc_ray.artifacts.storage.pending_uploads import PendingUpload
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.config.run import STAGE_NAMES
from edc_ray.errors import ArtifactError
from tests.artifacts.storage.test_pending_uploads import begin
from tests.e2e.unit_writer import FOLDER, UnitWriter, write_stage

pytestmark = pytest.mark.s3
MIB = 2**20
SECRET = "a-secret-that-no-message-shows"


def test_what_is_published_is_read_replaced_listed_and_deleted(store: Store) -> None:
    store.check_writable()
    assert store.list() == []
    assert store.publish("labels/a.parquet", b"first")
    assert not store.publish("labels/a.parquet", b"second")
    assert store.read("labels/a.parquet") == b"first"
    assert store.publish("labels/a.parquet", b"third", replace=True)
    assert store.publish("labels2/b.parquet", b"")
    assert (store.read("labels/a.parquet"), store.size("labels2/b.parquet")) == (b"third", 0)
    assert store.list("labels") == ["labels/a.parquet"]
    assert store.list() == ["labels/a.parquet", "labels2/b.parquet"]
    assert not store.exists("labels")
    store.delete("labels/a.parquet")
    store.delete("labels/a.parquet")
    assert store.list() == ["labels2/b.parquet"]
    assert store.read_if_there("labels/a.parquet") is None
    with pytest.raises(ArtifactError, match=r"labels/a\.parquet is missing"):
        store.read("labels/a.parquet")


@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_of_eight_threads_one_writes(store: Store, size: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.publish("race", bytes([number]) * size), range(8)))
    assert sum(won) == 1
    assert store.read("race") == bytes([won.index(True)]) * size


def test_of_eight_processes_with_other_bytes_each_one_writes_the_unit(store: Store) -> None:
    writer = UnitWriter(store.url)
    writer.start(units=1, tastes=list("abcdefgh"))
    assert 0 in writer.ended()
    writer.close()
    # A writer that replaces a unit first removes the manifest, and may then have given up.
    if read_manifest(store, FOLDER) is None:
        write_stage(store, 1, "a")
    manifest = read_manifest(store, FOLDER)
    assert manifest is not None
    assert manifest_is_intact(store, manifest)
    assert verify_run(store) == []


def test_a_large_object_goes_out_in_one_request_so_that_the_second_writer_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (bytes([number]) * (101 * MIB) for number in (1, 2))  # s3fs would cut it into parts
    assert store.publish("large", first)
    answers = iter([False])  # as if the other writer had come a moment later
    real = Store.exists
    monkeypatch.setattr(Store, "exists", lambda self, path: next(answers, True) and real(self, path))
    assert not store.publish("large", second)
    assert store.read("large") == first


def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything above 10 MiB goes out in parts of 5 MiB, the smallest that S3 takes."""
    monkeypatch.setattr(store_module, "_ONE_REQUEST", 0)
    monkeypatch.setattr(store_module, "_PART", 5 * MIB)


def test_an_object_in_parts_is_read_back_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts(monkeypatch)
    data = b"".join(bytes([number]) * MIB for number in range(23))
    assert store.publish("large", data)
    assert not store.publish("large", b"other")
    assert store.read("large") == data
    assert store.publish("large", data[::-1], replace=True)
    assert store.read("large") == data[::-1]
    assert store.pending_uploads() == []


def uploads_of(store: Store) -> list[PendingUpload]:
    found = store.pending_uploads()
    assert found is not None
    return found


def test_pending_uploads_are_listed_aged_and_aborted(store: Store) -> None:
    begin(store, "labels/a.parquet")
    begin(open_store(f"{store.url}-too", writable=False), "labels/b.parquet")
    (upload,) = uploads_of(store)
    assert upload.path == "labels/a.parquet"
    assert find_garbage(store, 3600, STAGE_NAMES).young == 1  # moto's clock stands still, this one's does not
    store.abort_upload(upload)
    store.abort_upload(upload)
    assert store.pending_uploads() == []
    neighbour = Store(f"{store.url}-too")
    (other,) = uploads_of(neighbour)
    neighbour.abort_upload(other)


REQUESTS: dict[str, Callable[[Store], Any]] = {
    "write": lambda store: store.publish("a", b"x"),
    "replace": lambda store: store.publish("a", b"x", replace=True),
    "read": lambda store: store.read("a"),
    "list": lambda store: store.list(),
    "delete": lambda store: store.delete("a"),
    "look for": lambda store: store.exists("a"),
    "ask the age of": lambda store: store.modified("a"),
    "list the uploads of": lambda store: store.pending_uploads(),
    "try": lambda store: store.check_writable(),
}


@pytest.mark.parametrize("wrong", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_a_refused_key_is_an_error_without_the_key(
    store: Store, ceph: dict[str, str], monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv(wrong, SECRET)
    for request in REQUESTS.values():
        with pytest.raises(ArtifactError, match=r"cannot .* s3://edc-ray/") as caught:
            request(store)
        assert "Error: None" not in str(caught.value)  # the server's code, if it has no words
        told = "".join(traceback.format_exception(caught.value)) + repr(store)
        assert SECRET not in told
        assert ceph["AWS_ACCESS_KEY_ID"] not in told


def test_fsspecs_own_configuration_leads_to_the_server(
    ceph: dict[str, str], ceph_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ceph:
        monkeypatch.delenv(name)
    access = {"key": ceph["AWS_ACCESS_KEY_ID"], "secret": ceph["AWS_SECRET_ACCESS_KEY"]}
    monkeypatch.setitem(fsspec.config.conf, "s3", access | {"endpoint_url": ceph["AWS_ENDPOINT_URL"]})
    store = open_store(ceph_url)
    assert store.options == {}
    assert store.publish("a", b"x")
    assert store.read("a") == b"x"


def test_a_server_that_is_not_there_is_an_error_without_the_key(
    store: Store, ceph: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with pytest.raises(ArtifactError, match=r"cannot .* s3://edc-ray/") as caught:
        store.publish("a", b"x")
    told = "".join(traceback.format_exception(caught.value))
    assert ceph["AWS_ACCESS_KEY_ID"] not in told
