"""What proves work done: a record for each work unit, a manifest for each stage. Both are small JSON files.

A shard that exists proves nothing. A record is written after the shards of its unit and names their sizes and
hashes. If they agree, the unit is done. A manifest is written after all records; it proves the stage done.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import SystemRandom
from typing import Any

from edc_ray.artifacts.proof.records import Manifest, Record, ShardInfo, parse_manifest, parse_record, to_json
from edc_ray.artifacts.storage import layout
from edc_ray.artifacts.storage.limits import MAX_JSON_BYTES
from edc_ray.artifacts.storage.store import Store
from edc_ray.errors import ArtifactError

# Several writers may fill a unit with different bytes at the same time.
_ROUNDS = 5
_LONGEST_PAUSE = 0.1


@dataclass(frozen=True)
class Problem:
    """One damaged or missing file of a run. `path` is relative to the run."""

    path: str
    problem: str


def write_unit(
    store: Store,
    stage_folder: str,
    unit_key: str,
    fingerprint: str,
    shards: Mapping[str, tuple[bytes, int]],
    meta: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
    *,
    environment: Mapping[str, Any] | None = None,
) -> Record:
    """Store the result of a unit: its shards first, its record last.

    Args:
        unit_key: names the record; unique in the stage.
        fingerprint: of the stage's config and inputs.
        shards: file name below the stage folder -> (content, rows).
        meta: small JSON values about the unit.
        seconds: time the unit took.
        environment: versions, hardware, commit.

    Returns:
        The record in the store: another writer's, if a valid one with this fingerprint was there first.

    Raises:
        ArtifactError: it cannot be written, or other writers keep replacing it with other bytes.
    """
    infos = tuple(ShardInfo(name, len(data), _sha256(data), rows) for name, (data, rows) in shards.items())
    name = layout.stage_of(stage_folder)
    record = Record(
        name, unit_key, fingerprint, infos, dict(meta or {}), float(seconds), dict(environment or {})
    )
    contents = {file_name: data for file_name, (data, _) in shards.items()}
    for turn in range(_ROUNDS):
        if settled := _write_once(store, stage_folder, record, contents):
            return settled
        # Writers that try again at the same moment would replace each other for ever.
        time.sleep(SystemRandom().uniform(0, _LONGEST_PAUSE * 2**turn))
    where = store.join(layout.record_path(stage_folder, unit_key))
    raise ArtifactError(
        f"{name}: unit '{unit_key}' cannot be settled",
        found=f"other writers of other bytes replaced {where} {_ROUNDS} times",
        next="let one run at a time write to this folder",
    )


def _write_once(
    store: Store, stage_folder: str, record: Record, contents: Mapping[str, bytes]
) -> Record | None:
    """The stored record after writing a unit. None: another writer replaced a part of it meanwhile."""
    path = layout.record_path(stage_folder, record.unit)
    replaced = False
    for file_name, data in contents.items():
        shard = layout.join_path(stage_folder, file_name)
        if store.publish(shard, data):
            continue
        if winner := read_record(store, stage_folder, record.unit, record.fingerprint):
            return winner
        if not store.holds(shard, data):
            # Both may name the bytes that are replaced now.
            store.delete(layout.manifest_path(stage_folder))
            store.delete(path)
        # Equal bytes are written too: `edc-ray gc` goes by the age of a file that no record names yet.
        store.publish(shard, data, replace=True)
        replaced = True
    if not store.publish(path, to_json(record)):
        if winner := read_record(store, stage_folder, record.unit, record.fingerprint):
            return winner
        store.publish(path, to_json(record), replace=True)
        replaced = True
    # After a replacement, this record may stand over another writer's bytes, or the reverse.
    return read_record(store, stage_folder, record.unit, record.fingerprint) if replaced else record


def copy_units(
    source: Store, source_folder: str, records: Iterable[Record], dest: Store, folder: str
) -> list[Record]:
    """Copy the units of a stage, each with one table, to a folder of another store, unless they are there."""
    copied = []
    for record in records:
        held = read_record(dest, folder, record.unit, record.fingerprint)
        if held is None:
            if len(record.shards) != 1:
                raise ArtifactError(
                    f"unit {record.unit} of {source.url} has {len(record.shards)} files, not one"
                )
            # A foreign record may name its file as it likes.
            shard, name = record.shards[0], layout.table_name(record.unit)
            shards = {name: (read_shard(source, source_folder, shard), shard.rows)}
            held = write_unit(
                dest, folder, record.unit, record.fingerprint, shards, record.meta, record.seconds,
                environment=record.environment,
            )  # fmt: skip
        copied.append(held)
    return copied


def read_record(store: Store, stage_folder: str, unit_key: str, fingerprint: str) -> Record | None:
    """The record of a unit if it is done, else None. Reads all bytes of the unit's shards.

    Raises:
        ArtifactError: the record was made by a newer version, or the store cannot be reached.
    """
    record = _stored_record(store, stage_folder, unit_key)
    if record is None or record.fingerprint != fingerprint or record.unit != unit_key:
        return None
    intact = all(_shard_problem(store, stage_folder, shard) is None for shard in record.shards)
    return record if intact else None


def read_shard(store: Store, stage_folder: str, shard: ShardInfo) -> bytes:
    """Content of a shard; an ArtifactError if it is missing or its bytes are not the recorded ones."""
    path = layout.join_path(stage_folder, shard.path)
    data = store.read(path, limit=shard.bytes)
    if problem := _mismatch(data, shard):
        hint = "run the stage again; edc-ray verify lists all damaged files"
        raise ArtifactError(f"{store.join(path)} is damaged", found=problem, next=hint)
    return data


def write_manifest(
    store: Store,
    stage_folder: str,
    records: Iterable[Record],
    *,
    fingerprint: str,
    dataset: Mapping[str, Any],
    config_digest: str = "",
    meta: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> Manifest:
    """Declare a stage complete. The last thing a stage writes.

    Args:
        records: of all units, in plan order, as `write_unit` and `read_record` returned them. Each is
            compared with the stored one, so the manifest names only what is there.

    Raises:
        ArtifactError: a unit's record or shard is no longer in the store.
    """
    settled = tuple(_settled(store, stage_folder, record) for record in records)
    name = layout.stage_of(stage_folder)
    manifest = Manifest(
        name, fingerprint, config_digest, dict(dataset), settled, dict(meta or {}), dict(environment or {})
    )
    store.publish(layout.manifest_path(stage_folder), to_json(manifest), replace=True)
    return manifest


def remove_unnamed(store: Store, stage_folder: str, records: Iterable[Record]) -> None:
    """Delete the shards and records of a stage that its manifest does not name: units of an earlier plan.

    A program that reads the whole folder would read their rows twice. Records go first: none may name a file
    that is gone.
    """
    kept = {layout.manifest_path(stage_folder), *named_paths(stage_folder, records)}
    unnamed = [path for path in store.list(stage_folder) if path not in kept]
    of_records = layout.join_path(layout.records_folder(stage_folder), "")
    for path in sorted(unnamed, key=lambda path: not path.startswith(of_records)):
        store.delete(path)


def named_paths(stage_folder: str, records: Iterable[Record]) -> set[str]:
    """Paths of some records and of the shards that they name, relative to the run."""
    paths = set()
    for record in records:
        paths.add(layout.record_path(stage_folder, record.unit))
        paths.update(layout.join_path(stage_folder, shard.path) for shard in record.shards)
    return paths


def read_manifest(store: Store, stage_folder: str) -> Manifest | None:
    """The manifest of a complete stage, or None. Damage or a newer version: an ArtifactError."""
    path = layout.manifest_path(stage_folder)
    data = store.read_if_there(path, limit=MAX_JSON_BYTES)
    if data is None:
        return None
    manifest = parse_manifest(data, store.join(path))
    if manifest is None:
        hint = "run the stage again"
        raise ArtifactError(f"{store.join(path)} is damaged", expected="a manifest of edc-ray", next=hint)
    return manifest


def manifest_is_intact(store: Store, manifest: Manifest) -> bool:
    """Whether every shard of a stage of the run is there with the recorded bytes. Reads them all."""
    folder = layout.stage_folder(manifest.stage)
    return all(_shard_problem(store, folder, shard) is None for shard in manifest.shards)


def verify_run(store: Store) -> list[Problem]:
    """Compare the files of a run with its records and manifests: one problem for each damaged file.

    Raises:
        ArtifactError: the store cannot be listed. Damage never raises.
    """
    problems: dict[str, Problem] = {}
    for path in store.list():
        if proof := proof_at(path):
            for problem in _problems_of(store, path, *proof):
                problems.setdefault(problem.path, problem)
    return [problems[path] for path in sorted(problems)]


def proof_at(path: str) -> tuple[str, Any] | None:
    """The stage folder of a manifest or record, and the function that parses it; None if it is neither."""
    folder, _, name = path.rpartition("/")
    if name == layout.MANIFEST_NAME:
        return folder, parse_manifest
    if name.endswith(".json") and folder.rpartition("/")[2] == layout.RECORDS_FOLDER:
        return folder.rpartition("/")[0], parse_record
    return None


def _problems_of(store: Store, path: str, stage_folder: str, parse: Any) -> list[Problem]:
    try:
        found = parse(store.read(path, limit=MAX_JSON_BYTES), store.join(path))
    except ArtifactError as error:
        return [Problem(path, str(error))]
    if found is None:
        return [Problem(path, "cannot be parsed")]
    named = [(layout.join_path(stage_folder, shard.path), shard) for shard in found.shards]
    checked = [(name, _shard_problem(store, stage_folder, shard)) for name, shard in named]
    return [Problem(name, problem) for name, problem in checked if problem is not None]


def _settled(store: Store, stage_folder: str, record: Record) -> Record:
    """The stored record: the given one, or that of another writer of the same unit."""
    paths = {layout.join_path(stage_folder, shard.path): shard.bytes for shard in record.shards}
    sizes_agree = all(store.size(path) == size for path, size in paths.items())
    as_stored = parse_record(to_json(record), "")  # a tuple in meta comes back as a list
    if sizes_agree and _stored_record(store, stage_folder, record.unit) == as_stored:
        return record
    if other := read_record(store, stage_folder, record.unit, record.fingerprint):
        return other
    where = store.join(layout.records_folder(stage_folder))
    raise ArtifactError(f"{record.stage}: unit '{record.unit}' is no longer in {where}", next="run it again")


def _shard_problem(store: Store, stage_folder: str, shard: ShardInfo) -> str | None:
    try:
        path = layout.join_path(stage_folder, shard.path)
        return _mismatch(store.read(path, limit=shard.bytes), shard)
    except ArtifactError as error:
        return error.summary


def _mismatch(data: bytes, shard: ShardInfo) -> str | None:
    if len(data) != shard.bytes:
        return f"{len(data)} bytes instead of {shard.bytes}"
    return None if _sha256(data) == shard.sha256 else "its sha256 is not the recorded one"


def _stored_record(store: Store, stage_folder: str, unit_key: str) -> Record | None:
    path = layout.record_path(stage_folder, unit_key)
    data = store.read_if_there(path, limit=MAX_JSON_BYTES)
    return None if data is None else parse_record(data, store.join(path))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
