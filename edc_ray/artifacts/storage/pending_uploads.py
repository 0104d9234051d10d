"""Uploads in parts that a killed writer left on S3. They have no name yet, but they cost money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PendingUpload:
    """An upload that has not ended. `path` is relative to the store; `begun`: seconds since 1970."""

    path: str
    upload_id: str
    begun: float


def pending_uploads(fs: Any, root: str) -> list[PendingUpload] | None:
    """All pending uploads below a folder of an fsspec file system, in the order of the server.

    None if it is not S3: others cannot list what they keep of a broken upload.
    """
    if not hasattr(fs, "list_multipart_uploads"):
        return None
    # s3fs's own list covers the whole bucket, and its first thousand uploads only.
    bucket, prefix, _ = fs.split_path(root.rstrip("/") + "/")
    prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
    found: list[PendingUpload] = []
    marker: dict[str, str] = {}
    while True:
        page = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **marker)
        for upload in page.get("Uploads") or ():
            if upload["Key"].startswith(prefix):
                path = upload["Key"].removeprefix(prefix)
                found.append(PendingUpload(path, upload["UploadId"], upload["Initiated"].timestamp()))
        if not page.get("IsTruncated"):
            return found
        marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def abort_upload(fs: Any, full: str, upload: PendingUpload) -> None:
    """Give up an upload to S3 under the name `full`; a FileNotFoundError if it has ended."""
    bucket, key, _ = fs.split_path(full)
    fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload.upload_id)
