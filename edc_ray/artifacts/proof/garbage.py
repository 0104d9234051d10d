"""What killed writers leave in a run: temporary files, shards that no record names, pending uploads.

A shard that a living writer has just written looks the same. Age tells them apart: a writer names a shard in
a record right after writing it, and rewrites an unnamed one before it relies on it. So all that a writer
relies on is young or named.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edc_ray.artifacts.proof.manifest import named_paths, proof_at
from edc_ray.artifacts.proof.records import Manifest, Record, parse_manifest, parse_record
from edc_ray.artifacts.storage import layout
from edc_ray.artifacts.storage.limits import MAX_JSON_BYTES
from edc_ray.artifacts.storage.local_files import refuse_linked_folder
from edc_ray.artifacts.storage.pending_uploads import PendingUpload
from edc_ray.artifacts.storage.store import Store
from edc_ray.errors import ConfigError

TEMPORARY, ORPHAN, PENDING = "temporary file", "orphan", "pending upload"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Garbage:
    """One thing that nothing names. `path` is relative to the run; `age` in seconds."""

    kind: str
    path: str
    age: float
    upload: PendingUpload | None = None


@dataclass(frozen=True)
class Findings:
    """What `find_garbage` saw.

    Args:
        garbage: older than the limit.
        young: number of unnamed things that are younger: a writer may be at work on them.
        left_alone: stage folders that could not be judged -> the reason.
        lists_uploads: whether the store can list pending uploads.
    """

    garbage: tuple[Garbage, ...]
    young: int
    left_alone: dict[str, str]
    lists_uploads: bool


def parse_age(text: str) -> float:
    """Seconds of an age such as 90s, 30m, 1h or 2d; a ConfigError if it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None:
        raise ConfigError(f"'{text}' is no age", expected="a number and s, m, h or d, such as 30m or 1h")
    return float(found[1]) * _SECONDS[found[2]]


def find_garbage(store: Store, min_age: float, stages: Iterable[str]) -> Findings:
    """What may be removed from a run, and from the runs of its sweep; `stages`: the names of all.

    Files younger than `min_age` (seconds, by the store's clock) and files of unknown age are kept.

    Raises:
        ArtifactError: the store cannot be read, a folder of a stage is a symbolic link, or a newer version
            wrote something.
    """
    # A file written later is not in this list; a file named later is young.
    paths = store.list()
    candidates = [(TEMPORARY, path) for path in store.leftovers()]
    folders = {layout.stage_folder(stage) for stage in stages}
    found = _stage_folders(paths, folders)
    if store.is_local:
        judged = folders.union(found)
        judged |= {layout.records_folder(folder) for folder in judged}
        for folder in sorted(judged | {path.rpartition("/")[0] for _, path in candidates} - {""}):
            refuse_linked_folder(store.url, folder)
    uploads, left_alone = store.pending_uploads(), {}
    for folder in found:
        try:
            candidates += [(ORPHAN, path) for path in _orphans(store, folder, paths)]
        except _UnknownNamesError as error:
            left_alone[folder] = f"{error} cannot be read, so it is not known what it names"
    now = time.time()
    unnamed = [Garbage(kind, path, now - _modified(store, path)) for kind, path in candidates]
    unnamed += [Garbage(PENDING, upload.path, now - upload.begun, upload) for upload in uploads or ()]
    old = tuple(one for one in unnamed if one.age >= min_age)
    return Findings(old, len(unnamed) - len(old), left_alone, uploads is not None)


def remove_garbage(store: Store, garbage: Iterable[Garbage], min_age: float) -> list[Garbage]:
    """Remove what `find_garbage` found, unless a writer has touched it since then. Returns what went."""
    removed = []
    for one in garbage:
        if one.upload is not None:
            store.abort_upload(one.upload)
        elif time.time() - _modified(store, one.path) < min_age:
            continue
        else:
            store.delete(one.path)
        removed.append(one)
    return removed


def _modified(store: Store, path: str) -> float:
    """Seconds since 1970. If the store does not say, infinity: the file then counts as young."""
    modified = store.modified(path)
    return math.inf if modified is None else modified


class _UnknownNamesError(Exception):
    """A manifest or record that is there and cannot be parsed."""


def _stage_folders(paths: list[str], stages: set[str]) -> list[str]:
    """Folders of stages of this program, even if a writer was killed before its first record."""
    files, found = set(paths), set[str]()
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name == layout.RUN_CONFIG and layout.join_path(folder, layout.RUN_DATA) in files:
            found.update(layout.join_path(folder, stage) for stage in stages)
        if proof := proof_at(path):
            found.add(proof[0])
    return sorted(folder for folder in found if folder.rpartition("/")[2] in stages)


def _orphans(store: Store, folder: str, paths: list[str]) -> list[str]:
    """Shards that no record names, and records that a later manifest left out, of one stage."""
    manifest_path, records_folder = layout.manifest_path(folder), f"{layout.records_folder(folder)}/"
    manifest = _parsed(store, manifest_path, parse_manifest)
    named = {manifest_path, *named_paths(folder, manifest.records if manifest else ())}
    mine = [path for path in paths if path.startswith(f"{folder}/")]
    records = {path for path in mine if path.startswith(records_folder) and path.endswith(".json")}
    outdated = set()
    for path in sorted(records - named):
        record = _parsed(store, path, parse_record)
        if record is None:  # it has just gone: somebody is at work here
            raise _UnknownNamesError(path)
        if manifest is not None and _is_left_out(store, path, manifest_path, folder):
            outdated.add(path)
        else:
            named |= named_paths(folder, [record])
    shards = {
        path
        for path in mine
        if path.endswith(layout.SHARD_SUFFIXES) and "/" not in path.removeprefix(f"{folder}/")
    }
    return sorted((shards | outdated) - named)


def _is_left_out(store: Store, record_path: str, manifest_path: str, folder: str) -> bool:
    """Whether a record belongs to an earlier plan, in a folder that keeps only what its manifest names.

    A record younger than the manifest is a unit of a run that grows.
    """
    if folder.rpartition("/")[2] not in layout.READ_BY_FOLDER:
        return False
    record, manifest = store.modified(record_path), store.modified(manifest_path)
    return record is not None and manifest is not None and record < manifest


def _parsed(store: Store, path: str, parse: Any) -> Any:
    data = store.read_if_there(path, limit=MAX_JSON_BYTES)
    if data is None:
        return None
    found: Manifest | Record | None = parse(data, store.join(path))
    if found is None:
        raise _UnknownNamesError(path)
    return found
