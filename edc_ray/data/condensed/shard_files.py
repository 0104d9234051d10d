"""Files of a finished stage as files that can be read in parts, after all their bytes were checked.

A local file is read where it is. Of a remote one fsspec makes a local copy in a folder that processes, runs
and copies of a run may share: a copy is named by the sha256 of its content, as the manifest states it. Whose
bytes have another hash is never read: a copy (cut short by a killed process, say) is fetched again, and what
is not right then is damaged in the store itself.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress

import pyarrow as pa
from filelock import FileLock

from edc_ray.artifacts.proof.manifest import read_shard
from edc_ray.artifacts.proof.records import ShardInfo
from edc_ray.artifacts.storage import layout
from edc_ray.artifacts.storage.store import Store
from edc_ray.errors import ArtifactError

DEFAULT_CACHE = "~/.cache/edc-ray"
"""Where copies of remote files lie unless it is said otherwise. Nothing is ever removed from it by itself."""
_CHUNK = 1 << 16
_SHA256 = re.compile(r"[0-9a-f]{64}")


def open_shard(store: Store, folder: str, shard: ShardInfo, cache: str | None = None) -> pa.NativeFile:
    """A shard that a record or manifest names, opened; its bytes are the recorded ones.

    A local file is hashed in pieces through the handle that is returned, so that a file which takes its name
    later is not read. Nothing protects from a program that writes into it afterwards.

    Args:
        store: of the run.
        folder: of the stage.
        shard: as recorded.
        cache: local folder of copies of remote files. None, and for memory://: the whole file is held in
            memory instead.

    Raises:
        ArtifactError: it is missing, cannot be read, or its bytes are not the recorded ones.
    """
    path = layout.join_path(folder, shard.path)
    if store.is_local:
        return _checked(_opened(store.join(path), store.join(path)), shard, store.join(path))
    if cache is None or store.url.startswith("memory://"):
        return pa.BufferReader(read_shard(store, folder, shard))
    return _checked_copy(store, path, shard, os.path.expanduser(cache))


def read_shard_bytes(store: Store, folder: str, shard: ShardInfo, cache: str | None = None) -> bytes:
    """The whole content; as `open_shard`."""
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
                return _checked(_opened(copy, url), shard, url)
            os.unlink(copy)
        file = _opened(store.copy(path, cache, shard.sha256), url)
        try:
            return _checked(file, shard, url)
        except ArtifactError:
            os.unlink(copy)
            raise


def _opened(path: str, url: str) -> pa.NativeFile:
    try:
        return pa.OSFile(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"{url} is missing") from error
    except OSError as error:
        found = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"cannot read {url}", found=found, next="check the access to it") from error


def _checked(file: pa.NativeFile, shard: ShardInfo, url: str) -> pa.NativeFile:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    size = file.tell()
    if size == shard.bytes and digest.hexdigest() == shard.sha256:
        file.seek(0)
        return file
    file.close()
    found = (
        "its sha256 is not the recorded one"
        if size == shard.bytes
        else f"{size} bytes instead of {shard.bytes}"
    )
    hint = "run the stage again; edc-ray verify lists all damaged files"
    raise ArtifactError(f"{url} is damaged", found=found, next=hint)
