from __future__ import annotations

import uuid
from typing import Any

import boto3
import pytest

from edc_ray.artifacts.storage.store import Store, open_store


def begin(store: Store, path: str) -> str:
    """What a writer leaves if it is killed after the first part."""
    bucket, _, key = store.join(path).removeprefix("s3://").partition("/")
    # A separate session: the default one keeps the keys that the first test gave it.
    client = boto3.Session().client("s3")
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x" * 100)
    client.close()
    return upload


def test_pending_uploads_of_this_folder_are_listed_and_aborted(s3_url: str) -> None:
    store = open_store(s3_url)
    begun = [begin(store, "labels/a.parquet"), begin(store, "squeeze/b.safetensors")]
    begin(open_store(f"{s3_url}-too"), "labels/c.parquet")
    uploads = store.pending_uploads()
    assert uploads is not None
    assert [(one.path, one.upload_id) for one in uploads] == [
        ("labels/a.parquet", begun[0]),
        ("squeeze/b.safetensors", begun[1]),
    ]
    store.abort_upload(uploads[0])
    store.abort_upload(uploads[0])
    assert store.pending_uploads() == uploads[1:]
    assert not store.exists("labels/a.parquet")


def test_a_bucket_as_the_root_is_listed_too(s3_url: str) -> None:
    store = open_store(s3_url)
    begun = begin(store, "x")
    bucket = open_store(s3_url.split("/run")[0].rpartition("/")[0], writable=False)
    assert begun in {one.upload_id for one in bucket.pending_uploads() or ()}


def test_all_pages_are_read(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(s3_url)
    fs = store._file_system()
    key = s3_url.removeprefix("s3://").partition("/")[2]
    asked: list[dict[str, Any]] = []

    def pages(method: str, **asked_for: Any) -> dict[str, Any]:
        asked.append(asked_for)
        number = len(asked)
        begun = type("Time", (), {"timestamp": lambda self: 7.0})()
        upload = {"Key": f"{key}/{number}", "UploadId": str(number), "Initiated": begun}
        following = {"NextKeyMarker": str(number), "NextUploadIdMarker": "u"}
        return {"Uploads": [upload], "IsTruncated": number < 3, **following}

    monkeypatch.setattr(fs, "call_s3", pages)
    assert [one.path for one in store.pending_uploads() or ()] == ["1", "2", "3"]
    assert [one.get("KeyMarker") for one in asked] == [None, "1", "2"]


def test_other_storage_has_none(tmp_path: Any) -> None:
    assert open_store(str(tmp_path)).pending_uploads() is None
    assert open_store(f"memory://{uuid.uuid4().hex}").pending_uploads() is None
