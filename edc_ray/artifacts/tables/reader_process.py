"""Parquet files of others, proven in a process of its own before this process reads them.

pyarrow trusts a file. Some files end the whole process, others turn a few bytes into gigabytes. So a child
process (`reader_child`) decodes the same bytes first, with limits on memory and time. If anything goes wrong,
only the child ends, and `prove` raises a ValueError. What was proven is remembered by its content.

All files are foreign, except those of the run that this program carries out (`Store.is_ours`). A manifest
proves nothing here: the author of a hostile file can write its hash too.

The bytes that were proven are the bytes that are read: they are fetched once and sent to the child by a pipe.

Each process has one child. It starts at the first foreign file, and ends with its parent or after ten idle
seconds. Its environment holds paths of libraries only: no credentials and no home folder.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from threading import Lock
from typing import IO, Any

from edc_ray.artifacts.storage.limits import most_decoded
from edc_ray.errors import EdcRayError

_SECONDS = 120
_BYTES_PER_SECOND = 5 * 2**20
_FREE_MEMORY = 2**28
_MOST_KEPT = 2**16
_PROGRAM = Path(__file__).with_name("reader_child.py")
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LD_PRELOAD")
# glibc would reserve 64 MiB for each thread, Arrow's own allocators a gigabyte.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
# Other systems take RLIMIT_AS and ignore it.
_HAS_MEMORY_LIMIT = sys.platform == "linux"
_LOOK_SECONDS = 0.1


class _Reader:
    """The child of a process. Threads take turns; a forked process gets a child of its own."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def answer(self, request: dict[str, Any], parts: Sequence[bytes]) -> str | None:
        """What is wrong with a file; None: nothing."""
        status = 0
        with self._lock:
            try:
                for _ in range(2):
                    if said := _ask(self._running(), request, parts):
                        return json.loads(said)
                    if status := self.stop(kill=False):
                        break
                    # The child was idle and ended just before the request came.
            except BaseException:  # Ctrl-C too
                self.stop()
                raise
        if status == -signal.SIGALRM:
            return f"pyarrow was not done with it after {request['seconds']} seconds"
        return f"pyarrow ended its process ({signal.Signals(-status).name if status < 0 else status})"

    def stop(self, *, kill: bool = True) -> int:
        """End the child, if there is one; how it ended."""
        child, self._child = self._child, None
        if child is None:
            return 0
        if kill:
            child.kill()
        child.communicate()  # closes the pipes and waits
        return child.returncode

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM)], bufsize=0, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment | _ENVIRONMENT,
                start_new_session=True,  # Ctrl-C comes to the parent alone
            )  # fmt: skip
            folders = [os.path.abspath(folder) for folder in sys.path]
            _write(self._child.stdin, json.dumps(folders).encode() + b"\n")
            said = self._child.stdout.readline() if self._child.stdout else b""
            if said != b"null\n":
                raise EdcRayError(
                    "the process that checks Parquet files does not start",
                    found=said.decode().strip() or None, expected="a Python that has pyarrow",
                    next=f"try {sys.executable} -c 'import pyarrow.parquet'",
                )  # fmt: skip
        return self._child


_readers: dict[int, _Reader] = {}
_proven: set[object] = set()


def prove(
    size: int,
    parts: Sequence[tuple[int, bytes]],
    groups: Sequence[int] | None = None,
    columns: Collection[str] | None = None,
) -> None:
    """Decode a Parquet file, or parts of it, in the reader process.

    Args:
        size: of the file, in bytes.
        parts: (first byte, content) of all that is needed; the last holds the footer.
        groups: the row groups that will be read; None: all; empty: only the footer.
        columns: or fields of columns (`image.bytes`) that will be read; None: all.

    Raises:
        ValueError: pyarrow cannot read it, or needs more memory, time or bytes than an honest file does.
        EdcRayError: the process cannot be started.
    """
    chosen = None if groups is None else tuple(groups)
    names = None if columns is None else tuple(columns)
    # Python's hash is keyed, so nobody can make a file with the hash of another.
    key = (size, chosen, names, tuple((start, len(part), hash(part)) for start, part in parts))
    if key in _proven:
        return
    limit = most_decoded(size)
    request = {
        "size": size,
        "ranges": [(start, len(part)) for start, part in parts],
        "groups": chosen,
        "columns": names,
        "limit": limit,
        "memory": 2 * limit + _FREE_MEMORY if _HAS_MEMORY_LIMIT else None,
        "seconds": _SECONDS + size // _BYTES_PER_SECOND,
    }
    reader = _readers.setdefault(os.getpid(), _Reader())
    if problem := reader.answer(request, [part for _, part in parts]):
        raise ValueError(problem)
    if len(_proven) >= _MOST_KEPT:
        _proven.clear()
    _proven.add(key)


def _ask(child: subprocess.Popen[bytes], request: dict[str, Any], parts: Sequence[bytes]) -> bytes:
    """The line that the child answers; empty: it ended."""
    with suppress(BrokenPipeError):
        for data in (json.dumps(request).encode() + b"\n", *parts):
            _write(child.stdin, data)
    assert child.stdout is not None
    if not _HAS_MEMORY_LIMIT:
        most = 2 * request["limit"] + sum(map(len, parts)) + _FREE_MEMORY
        while not wait([child.stdout.fileno()], _LOOK_SECONDS):
            told = subprocess.run(["ps", "-o", "rss=", "-p", str(child.pid)], capture_output=True, text=True)
            if int(told.stdout.strip() or 0) * 1024 > most:
                child.kill()
    return child.stdout.readline()


def _write(file: IO[bytes] | None, data: bytes) -> None:
    assert file is not None
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


@atexit.register
def _stop() -> None:
    if reader := _readers.get(os.getpid()):  # a forked process leaves its parent's alone
        reader.stop()
