"""Shards of a finished stage as files that can be read in parts, once all their bytes are checked.

A local file is read in place. A remote file is copied into a local folder that processes and runs may share,
under the sha256 that the manifest states. Bytes with another hash are never read: the copy (cut short by a
killed process, say) is fetched again. If it is still wrong, the store itself is damaged.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from filelock import FileLock

from edc_ray.artifacts.proof.manifest import read_shard
from edc_ray.artifacts.proof.records import ShardInfo
from edc_ray.artifacts.storage import layout
from edc_ray.artifacts.storage.store import Store
from edc_ray.errors import ArtifactError

DEFAULT_CACHE = "~/.cache/edc-ray"
"""Default folder for copies of remote files. Nothing removes files from it."""
_CHUNK = 1 << 16
_SHA256 = re.compile(r"[0-9a-f]{64}")


def open_shard(store: Store, folder: str, shard: ShardInfo, cache: str | None = None) -> pa.NativeFile:
    """Open a shard that a record or manifest names, if its bytes are the recorded ones.

    A local file is hashed through the returned handle, so a file that takes its name later is not read.
    Nothing protects against a program that writes into the file afterwards. A remote file without a `cache`,
    and one of memory://, is read into memory.

    Raises:
        ArtifactError: it is missing, cannot be read, or its bytes are not the recorded ones.
    """
    path = layout.join_path(folder, shard.path)
    url = store.join(path)
    if store.is_local:
        return _checked(url, shard, url)
    if cache is None or store.url.startswith("memory://"):
        return pa.BufferReader(read_shard(store, folder, shard))
    return _checked_copy(store, path, shard, os.path.expanduser(cache))


def read_shard_bytes(store: Store, folder: str, shard: ShardInfo, cache: str | None = None) -> bytes:
    """The whole content of a shard; see `open_shard`."""
    with open_shard(store, folder, shard, cache) as file:
        return file.read(shard.bytes)


def _checked_copy(store: Store, path: str, shard: ShardInfo, cache: str) -> pa.NativeFile:
    url = store.join(path)
    if not _SHA256.fullmatch(shard.sha256):  # it becomes a file's name
        raise ArtifactError(f"{url} has no sha256", found=repr(shard.sha256[:80]), next="run the stage again")
    os.makedirs(cache, exist_ok=True)
    with FileLock(os.path.join(cache, f"{shard.sha256}.lock")):  # one process fetches, the others wait
        copy = os.path.join(cache, shard.sha256)
        if os.path.exists(copy):
            with suppress(ArtifactError):
                return _checked(copy, shard, url)
            os.unlink(copy)
        store.copy(path, cache, shard.sha256)
        try:
            return _checked(copy, shard, url)
        except ArtifactError:
            Path(copy).unlink(missing_ok=True)
            raise


def _checked(path: str, shard: ShardInfo, url: str) -> pa.NativeFile:
    """The file of a shard, open at its start. Errors call it `url`."""
    try:
        file = pa.OSFile(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"{url} is missing") from error
    except OSError as error:
        found = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"cannot read {url}", found=found, next="check your access to it") from error
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    size = file.tell()
    if size == shard.bytes and digest.hexdigest() == shard.sha256:
        file.seek(0)
        return file
    file.close()
    found = f"{size} bytes instead of {shard.bytes}"
    if size == shard.bytes:
        found = "its sha256 is not the recorded one"
    hint = "run the stage again; edc-ray verify lists all damaged files"
    raise ArtifactError(f"{url} is damaged", found=found, next=hint)
