"""Bytes under names, anywhere fsspec reaches. A name holds its whole content or does not exist.

Local files are written under a temporary name, synced, then linked or renamed: fsspec's own exclusive write
is not safe against a crash. Object stores take the whole content in one call, S3 in one request if it can.
Some S3 servers (Ceph 16) ignore the condition of an upload in parts, so a second writer replaces the first,
and a writer killed between two parts leaves them behind.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.cached import SimpleCacheFileSystem

from edc_ray.artifacts.storage.layout import is_inside
from edc_ray.artifacts.storage.local_files import TEMPORARY_SUFFIX, publish_local, refuse_way_out
from edc_ray.artifacts.storage.patience import patiently
from edc_ray.artifacts.storage.pending_uploads import PendingUpload, abort_upload, pending_uploads
from edc_ray.artifacts.storage.redaction import without_secrets
from edc_ray.errors import ArtifactError, ConfigError, StorageError, how_to_install

_PROBE_PREFIX = ".edc-ray-probe-"
# A store may refuse to create a file because of another one that has gone since.
_TRIES = 3
# S3: the largest content sent in one request (5 GiB would be allowed), and the parts of a larger one.
_ONE_REQUEST = 2**30
_PART = 50 * 2**20
_EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
}
# What waiting does not mend. A write that is forbidden in the middle of a run was allowed at its start.
_LASTING = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, TypeError, ValueError)
PLACES = "a path, s3://, gs://, az:// or another URL that fsspec knows"


@dataclass(frozen=True)
class Store:
    """A folder at a URL. Picklable: a worker opens the file system again.

    Args:
        url: made by `open_store`: an absolute path for local files, else a URL.
        options: fsspec's storage options; never shown, stored or logged.
        is_ours: the folder of the run that this program carries out. Its Parquet files are read without the
            reader process (`tables.reader_process`), once their bytes agree with their records. Anybody may
            have filled a folder that was opened by its URL, and may have written the hashes in it.
        patience: seconds for which reads and writes are tried again while the storage fails.
    """

    url: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    is_ours: bool = field(default=False, compare=False, repr=False)
    patience: float = field(default=0.0, compare=False, repr=False)

    @property
    def is_local(self) -> bool:
        return "://" not in self.url

    def join(self, path: str) -> str:
        """Full URL of a relative path. Anyone may have written the manifest that names it."""
        if not is_inside(path):
            raise ArtifactError(
                f"{path!r} is not a path inside the store", expected="a relative path without '..'"
            )
        return f"{self.url.rstrip('/')}/{path}"

    def read(self, path: str, *, limit: int | None = None) -> bytes:
        """Whole content of a file; an ArtifactError if it is missing. See `read_if_there`."""
        data = self.read_if_there(path, limit=limit)
        if data is None:
            raise ArtifactError(f"{self.join(path)} is missing")
        return data

    def read_if_there(self, path: str, *, limit: int | None = None) -> bytes | None:
        """Whole content of a file; None if it is missing, or has just gone.

        Raises:
            ArtifactError: it cannot be read, or has more than `limit` bytes. At most one more is fetched.
        """
        return patiently(self.patience, lambda: self._read_if_there(path, limit))

    def _read_if_there(self, path: str, limit: int | None) -> bytes | None:
        if self.is_local:
            size = self._size(path)
            if size is None:
                return None  # or a pipe or device, whose reading might never end
            _refuse_large(self.join(path), size, limit)
        fs, full = self._locate(path)
        try:
            data = fs.cat_file(full, end=None if limit is None or self.is_local else limit + 1)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except Exception as error:  # each file system has exceptions of its own
            if limit is not None and not self.is_local and self._size(path) == 0:
                return b""  # S3 refuses a range of an empty file
            raise self._failure("read", path, error) from error
        _refuse_large(self.join(path), len(data), limit)
        return data

    def holds(self, path: str, data: bytes) -> bool:
        """Whether a file has this content. A file of another size is not read."""
        return self.size(path) == len(data) and self.read_if_there(path, limit=len(data)) == data

    def copy(self, path: str, folder: str, name: str) -> str:
        """Path of a local copy, `name` in `folder`; fetched unless there is one. Its bytes are not checked.

        fsspec's simplecache makes it: its filecache keeps an index, which it may unpickle.
        """
        fs, full = self._locate(path)
        options: dict[str, Any] = {"fs": fs, "cache_storage": folder, "cache_mapper": lambda _: name}
        with self._naming("read", path):
            try:
                SimpleCacheFileSystem(**options, skip_instance_cache=True).open(full).close()
            except FileNotFoundError as error:
                raise ArtifactError(f"{self.join(path)} is missing") from error
        return os.path.join(folder, name)

    def exists(self, path: str) -> bool:
        """Whether a file (not a folder) has this name."""
        return self.size(path) is not None

    def size(self, path: str) -> int | None:
        """Bytes of a file; None if it is missing."""
        return patiently(self.patience, lambda: self._size(path))

    def _size(self, path: str) -> int | None:
        fs, full = self._locate(path)
        fs.invalidate_cache()  # other processes write too
        with self._naming("look for", path), suppress(FileNotFoundError, NotADirectoryError):
            info = fs.info(full)
            return int(info["size"]) if info["type"] == "file" else None

    def list(self, folder: str = "") -> list[str]:
        """Sorted relative paths of all files below a folder, without temporary ones."""
        return [path for path in self._walk(folder) if not _is_temporary(path)]

    def leftovers(self, folder: str = "") -> list[str]:
        """Temporary files: those that killed writers left behind, and those of living writers."""
        return [path for path in self._walk(folder) if _is_temporary(path)]

    def pending_uploads(self) -> list[PendingUpload] | None:
        """Unfinished uploads in parts below this folder; None: the store has no such uploads."""
        fs = self._file_system()
        with self._naming("list the pending uploads of", ""):
            return pending_uploads(fs, fs._strip_protocol(self.url))

    def abort_upload(self, upload: PendingUpload) -> None:
        """Give up a pending upload and its parts. Nothing happens if it has ended."""
        fs, full = self._locate(upload.path)
        with self._naming("abort the upload of", upload.path), suppress(FileNotFoundError):
            abort_upload(fs, full, upload)

    def modified(self, path: str) -> float | None:
        """When a file got its content, in seconds since 1970 by the store's clock.

        None: it is missing, or the store does not say.
        """
        fs, full = self._locate(path)
        fs.invalidate_cache()
        with self._naming("look for", path), suppress(FileNotFoundError, NotImplementedError):
            return fs.modified(full).timestamp()

    def delete(self, path: str) -> None:
        """Remove a file. Nothing happens if it is missing."""
        fs, full = self._locate(path)
        with self._naming("delete", path), suppress(FileNotFoundError):
            fs.rm_file(full)

    def publish(self, path: str, data: bytes, *, replace: bool = False) -> bool:
        """Give `path` its whole content at once.

        Args:
            path: relative to the store.
            data: the content.
            replace: replace a file of this name. False: an existing file stays, and of several writers at
                once exactly one writes. (Above 1 GiB on S3, the server must check the condition of an upload
                in parts, as AWS does.)

        Returns:
            Whether it was written. False: a file of this name exists, with any content.

        Raises:
            ArtifactError: it cannot be written.
        """
        return patiently(self.patience, lambda: self._publish(path, data, replace=replace))

    def _publish(self, path: str, data: bytes, *, replace: bool) -> bool:
        for tries_left in reversed(range(_TRIES)):
            if not replace and self._size(path) is not None:
                return False
            try:
                return self._put(path, data, replace=replace)
            except Exception as error:
                if not replace and isinstance(error, OSError) and self._size(path) is not None:
                    return False
                # A file was in the way, and may have been deleted since. Some S3 servers say OSError 22.
                is_refused = isinstance(error, FileExistsError) or getattr(error, "errno", 0) == errno.EINVAL
                if replace or not is_refused or not tries_left:
                    raise self._failure("write", path, error) from error
        raise AssertionError("the last try returns or raises")

    def _put(self, path: str, data: bytes, *, replace: bool) -> bool:
        fs, full = self._locate(path)
        if self.is_local:
            return publish_local(full, data, replace=replace)
        options: dict[str, Any] = {"mode": "overwrite" if replace else "create"}
        if _EXTRAS.get(urlsplit(self.url).scheme) == "s3":
            # s3fs sends less than two chunks in one request.
            options["chunksize"] = _ONE_REQUEST if len(data) <= _ONE_REQUEST else _PART
        fs.pipe_file(full, data, **options)
        return True

    def check_writable(self) -> None:
        """Write, read and delete a tiny file; an ArtifactError if one of the three does not work."""
        probe = f"{_PROBE_PREFIX}{uuid.uuid4().hex}"
        self.publish(probe, b"probe")
        if not self.holds(probe, b"probe"):
            raise ArtifactError(
                f"{self.url} does not give back what was written", next="choose another storage.root"
            )
        self.delete(probe)

    def _file_system(self) -> Any:
        try:
            return fsspec.url_to_fs(self.url, **self.options)[0]
        except ImportError as error:
            raise ConfigError(
                f"storage {self.url} needs a library that is not installed",
                found=str(error),
                next=how_to_open(self.url),
            ) from error
        except Exception as error:  # each file system has exceptions of its own
            told = without_secrets(f"{type(error).__name__}: {error}", self.url, self.options)
            raise ConfigError(
                f"storage {self.url} cannot be opened", found=told.partition("\n")[0], expected=PLACES
            ) from error

    def _locate(self, path: str) -> tuple[Any, str]:
        fs = self._file_system()
        full = fs._strip_protocol(self.join(path))
        if self.is_local:
            refuse_way_out(self.url, full)
        return fs, full

    def _walk(self, folder: str) -> list[str]:
        fs = self._file_system()
        start = fs._strip_protocol(self.join(folder) if folder else self.url)
        root = fs._strip_protocol(self.url).rstrip("/") + "/"
        fs.invalidate_cache()
        found: list[str] = []
        with self._naming("list", folder), suppress(FileNotFoundError):
            found = fs.find(start)
        return sorted(full.removeprefix(root) for full in found if not full.endswith("/"))

    @contextmanager
    def _naming(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except ArtifactError:
            raise
        except Exception as error:  # each file system has exceptions of its own
            raise self._failure(verb, path, error) from error

    def _failure(self, verb: str, path: str, error: Exception) -> ArtifactError:
        where = self.join(path) if path else self.url
        # s3fs gives Python's error the server's message. If that is empty, the cause says what is wrong.
        wordless = error.__cause__ is not None and str(error).rpartition("] ")[2] in ("", "None")
        told = f"{type(error).__name__}: {error.__cause__ if wordless else error}"
        found = without_secrets(told, self.url, self.options)
        lasts = isinstance(error, _LASTING) or (verb != "write" and isinstance(error, PermissionError))
        kind = ArtifactError if lasts else StorageError
        return kind(f"cannot {verb} {where}", found=found, next="check storage.root and the access to it")


def how_to_open(url: str) -> str:
    """What to install for a URL whose file system is not."""
    scheme = urlsplit(url).scheme
    extra = _EXTRAS.get(scheme)
    return how_to_install(extra) if extra else f"install fsspec's library for {scheme}://"


def open_store(root: str, options: dict[str, Any] | None = None, *, writable: bool = True) -> Store:
    """Open a folder of artifacts at a URL or local path, with fsspec's storage options.

    Raises:
        ConfigError: not a URL that can be used.
        ArtifactError: `writable`, and it cannot be written. Proven by a tiny file.
    """
    store = Store(_normalised(root), dict(options or {}))
    if writable:
        store.check_writable()
    else:
        store._file_system()
    return store


def _normalised(root: str) -> str:
    if "::" in root:
        raise ConfigError("a chained URL cannot be a storage root", expected="one protocol")
    if not root or "\0" in root:
        raise ConfigError("the storage root is empty or holds a zero byte", next="set storage.root")
    if root.startswith(("file://", "local://")):
        root = root.split("://", 1)[1]
    elif "://" in root:
        if urlsplit(root).password is not None:  # the URL would end up in logs and manifests
            raise ConfigError(
                "the storage root holds a password", next="put it in the environment of the nodes"
            )
        return root.rstrip("/") if not root.endswith("://") else root
    return os.path.abspath(os.path.expanduser(root))


def _refuse_large(url: str, size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise ArtifactError(f"{url} is too large", found=f"{size} bytes or more", expected=f"at most {limit}")


def _is_temporary(path: str) -> bool:
    return path.endswith(TEMPORARY_SUFFIX) or path.rpartition("/")[2].startswith(_PROBE_PREFIX)
