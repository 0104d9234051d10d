"""The folder that an export writes. It may hold nothing else, and an interrupted export resumes in it.

Until the export is finished, a note in the folder says what is being written. The same command makes the same
bytes: it keeps an equal file of an earlier call and replaces any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from edc_ray.artifacts.proof.manifest import Problem
from edc_ray.artifacts.storage.limits import MAX_JSON_BYTES
from edc_ray.artifacts.storage.store import Store
from edc_ray.data.real.undecoded import NUM_THREADS
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.sharing.facts import ABOUT

_NOTE = "export-unfinished"


class ExportTarget:
    """A folder, or some subfolders of it, that one export fills.

    Args:
        store: of the folder.
        fingerprint: of everything that determines the files.
        parts: the subfolders; "" is the whole folder.

    Raises:
        ConfigError: the folder holds something that this export did not write.
    """

    def __init__(self, store: Store, fingerprint: str, parts: Sequence[str] = ("",)) -> None:
        self.store, self.files = store, dict[str, dict[str, Any]]()  # bytes and sha256 by path
        self._fingerprint = fingerprint
        if fingerprint in [_stated(store, path).get("fingerprint") for path in (_NOTE, ABOUT)]:
            return
        for part in parts:
            if held := [path for path in store.list(part) if path != _NOTE]:
                raise ConfigError(
                    f"{store.join(part) if part else store.url} is not empty",
                    found=held[0],
                    expected="an empty folder, or one that the same export began",
                    next="give another folder to write",
                )

    def begin(self) -> None:
        """Mark the folder as holding this export, unfinished."""
        note = json.dumps({"fingerprint": self._fingerprint})
        self.store.publish(_NOTE, note.encode(), replace=True)

    def put(self, path: str, data: bytes) -> None:
        """Write a file, unless it already has this content."""
        if not self.store.publish(path, data) and not self.store.holds(path, data):
            self.store.publish(path, data, replace=True)
        self.files[path] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def put_all(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write several files at once."""
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            list(pool.map(lambda file: self.put(*file), files))

    def finish(self, about: dict[str, Any] | None = None) -> None:
        """Mark the export as complete; `about` becomes edc_ray.json, with the files."""
        if about is not None:
            stated = about | {"fingerprint": self._fingerprint, "files": self.files}
            text = json.dumps(stated, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True)
            self.store.publish(ABOUT, f"{text}\n".encode(), replace=True)
        self.store.delete(_NOTE)


def export_problems(store: Store) -> list[Problem]:
    """Files of an export that are missing or differ from edc_ray.json; none if the folder is no export."""
    if store.exists(_NOTE):
        return [Problem(_NOTE, "the export is unfinished; run the same command again")]
    if not store.exists(ABOUT):
        return []
    files = _stated(store, ABOUT).get("files")
    if not isinstance(files, dict):
        return [Problem(ABOUT, "it does not name the files of the export")]
    checked = [(path, _problem(store, path, facts)) for path, facts in files.items()]
    return [Problem(path, problem) for path, problem in checked if problem is not None]


def _problem(store: Store, path: str, facts: Any) -> str | None:
    """What is wrong with a file, compared with the facts that somebody states."""
    size = facts.get("bytes") if isinstance(facts, dict) else None
    if not isinstance(size, int) or size < 0:
        return f"{ABOUT} does not state its size"
    try:
        data = store.read_if_there(path, limit=size)
    except ArtifactError as error:  # also a path that leads out of the folder
        return error.summary
    if data is None:
        return "it is missing"
    is_recorded = facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return None if is_recorded else "its sha256 is not the recorded one"


def _stated(store: Store, path: str) -> dict[str, Any]:
    """A JSON object; empty if there is none."""
    try:
        stated = json.loads(store.read_if_there(path, limit=MAX_JSON_BYTES) or b"null")
    except (ValueError, RecursionError):
        return {}
    return stated if isinstance(stated, dict) else {}
