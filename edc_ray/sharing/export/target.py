"""The folder that an export writes: nothing else may lie there, and an interrupted export goes on.

A note of what is being written stands in the folder from the first file to the last. The same command makes
the same bytes, so what an earlier call left is compared and kept, or replaced where it differs.
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

ABOUT = "edc_ray.json"
"""What an export is of, and the hash of each of its files; written last: it is complete."""
_NOTE = "export-unfinished"


class ExportTarget:
    """A folder, or some subfolders of it, that one export fills.

    Args:
        store: of the folder.
        fingerprint: of all that determines the files.
        parts: the subfolders; "" is the whole folder.

    Attributes:
        files: path -> bytes and sha256 of each file that was put.

    Raises:
        ConfigError: it holds something that the same export has not put there.
    """

    def __init__(self, store: Store, fingerprint: str, parts: Sequence[str] = ("",)) -> None:
        self.store, self.files = store, dict[str, dict[str, Any]]()
        self._fingerprint = fingerprint
        if fingerprint in (self._said(_NOTE), self._said(ABOUT)):
            return
        for part in parts:
            if held := [path for path in store.list(part) if path != _NOTE]:
                raise ConfigError(
                    f"{store.join(part) if part else store.url} is not empty",
                    found=held[0],
                    expected="nothing, or what the same export of the same results has begun",
                    next="give another folder to write",
                )

    def begin(self) -> None:
        """From here on the folder holds this export, though not all of it."""
        note = json.dumps({"fingerprint": self._fingerprint})
        self.store.publish(_NOTE, note.encode(), replace=True)

    def put(self, path: str, data: bytes) -> None:
        """A file with this content, whether it was there or not."""
        if not self.store.publish(path, data) and not self.store.holds(path, data):
            self.store.publish(path, data, replace=True)
        self.files[path] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def put_all(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Several files, at once."""
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            list(pool.map(lambda file: self.put(*file), files))

    def finish(self, about: dict[str, Any] | None = None) -> None:
        """Everything is there.

        Args:
            about: stored as edc_ray.json, with the files.
        """
        if about is not None:
            stated = about | {"fingerprint": self._fingerprint, "files": dict(sorted(self.files.items()))}
            text = json.dumps(stated, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True)
            self.store.publish(ABOUT, f"{text}\n".encode(), replace=True)
        self.store.delete(_NOTE)

    def _said(self, path: str) -> str | None:
        """The fingerprint in a note; None where there is none."""
        return _stated(self.store, path).get("fingerprint")


def export_problems(store: Store) -> list[Problem]:
    """Files of an export that are missing or are not what edc_ray.json says; none where it is no export."""
    if store.exists(_NOTE):
        return [Problem(_NOTE, "the export has not ended; give the same command again")]
    if not store.exists(ABOUT):
        return []
    files = _stated(store, ABOUT).get("files")
    if not isinstance(files, dict):
        return [Problem(ABOUT, "it does not name the files of the export")]
    checked = [(path, _problem(store, path, facts)) for path, facts in files.items()]
    return [Problem(path, problem) for path, problem in checked if problem is not None]


def _problem(store: Store, path: str, facts: Any) -> str | None:
    """What is wrong with a file of which somebody states these facts."""
    size = facts.get("bytes") if isinstance(facts, dict) else None
    if not isinstance(size, int) or size < 0:
        return f"{ABOUT} does not tell how large it is"
    try:
        data = store.read_if_there(path, limit=size)
    except ArtifactError as error:  # a path that leads out of the folder, too
        return error.summary
    if data is None:
        return "it is missing"
    is_recorded = facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return None if is_recorded else "its sha256 is not the recorded one"


def _stated(store: Store, path: str) -> dict[str, Any]:
    """An object of JSON; empty where there is none."""
    try:
        stated = json.loads(store.read_if_there(path, limit=MAX_JSON_BYTES) or b"null")
    except (ValueError, RecursionError):
        return {}
    return stated if isinstance(stated, dict) else {}
