"""Records and manifests as values and as JSON. Anyone may have written the JSON, so each field is checked."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from edc_ray.artifacts.proof.record_facts import check_epochs, check_record_meta, check_stage_facts
from edc_ray.artifacts.storage.layout import is_inside, is_key
from edc_ray.errors import ArtifactError

SCHEMA_VERSION = 1
# Absent in the first runs. Files have hashes of their own; this one protects the means and class names.
_DIGEST = "sha256"
# What damaged or hostile JSON makes Python raise, besides our own errors.
_DAMAGE = (ValueError, TypeError, KeyError, RecursionError, OverflowError)
_OF_BOTH: dict[str, type] = {
    "stage": str,
    "fingerprint": str,
    "meta": dict,
    "environment": dict,
    "schema_version": int,
}
_OF_RECORD = _OF_BOTH | {"unit": str}
_OF_MANIFEST = _OF_BOTH | {"config_digest": str, "dataset": dict}
_OF_SHARD: dict[str, type] = {"path": str, "bytes": int, "sha256": str, "rows": int}


@dataclass(frozen=True)
class ShardInfo:
    """One file. `path` is relative to the folder of its stage."""

    path: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class Record:
    """Proof that one work unit is done. `environment`: the versions, hardware and commit that made it."""

    stage: str
    unit: str
    fingerprint: str
    shards: tuple[ShardInfo, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    environment: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Manifest:
    """Proof that a stage is complete, with all that a reader needs to know about it.

    Args:
        stage: name of the stage.
        fingerprint: hash of everything that changes its result.
        config_digest: hash of the run's resolved config.
        dataset: {"name": ..., "class_names": [...]}.
        records: of all units, in plan order.
        meta: JSON values for readers, such as mean and std.
        environment: versions, hardware and commit that made the units; several values if they differ.
    """

    stage: str
    fingerprint: str
    config_digest: str
    dataset: dict[str, Any]
    records: tuple[Record, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def shards(self) -> tuple[ShardInfo, ...]:
        return tuple(shard for record in self.records for shard in record.shards)


def to_json(value: Record | Manifest) -> bytes:
    """Canonical JSON: the same value gives the same bytes. It states the hash of everything else in it.

    Raises:
        TypeError, ValueError: `meta` holds something that is not JSON, or a NaN.
    """
    tree = asdict(value)
    stated = tree | {_DIGEST: _digest(tree)}
    return json.dumps(stated, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def parse_record(data: bytes, url: str) -> Record | None:
    """A record from its JSON, or None if it is none. A newer version: an ArtifactError naming `url`."""
    try:
        return _record(_versioned(data, url))
    except _DAMAGE:
        return None


def parse_manifest(data: bytes, url: str) -> Manifest | None:
    """A manifest from its JSON, or None if it is none. A newer version: an ArtifactError naming `url`."""
    try:
        raw = _versioned(data, url)
        records = tuple(map(_record, _typed(raw, "records", list)))
        manifest = Manifest(**_all_typed(raw, _OF_MANIFEST), records=records)
        check_stage_facts(manifest.meta, manifest.dataset)
        _refuse_twice([record.unit for record in manifest.records])
        _refuse_twice([shard.path for shard in manifest.shards])
        if manifest.stage == "relabel":
            check_epochs([record.meta["epochs"] for record in manifest.records])
        return manifest
    except _DAMAGE:
        return None


def _versioned(data: bytes, url: str) -> dict[str, Any]:
    raw = json.loads(data, parse_float=_finite, parse_constant=_finite)
    version = _typed(raw, "schema_version", int)
    if version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{url} was written by a newer edc-ray",
            found=f"schema version {version}",
            expected=f"at most {SCHEMA_VERSION}",
            next="upgrade edc-ray",
        )
    stated, found = raw.pop(_DIGEST, None), _digest(raw)
    if stated not in (None, found):
        raise ValueError("a bit of it was flipped")
    return raw


def _digest(tree: dict[str, Any]) -> str:
    """Hash of the values, however they are formatted. ValueError: half a character, which JSON can hold."""
    options: dict[str, Any] = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
    return hashlib.sha256(json.dumps(tree, allow_nan=False, **options).encode()).hexdigest()


def _record(raw: dict[str, Any]) -> Record:
    values = _all_typed({"environment": {}} | raw, _OF_RECORD)  # absent in the first runs
    shards = tuple(map(_shard, _typed(raw, "shards", list)))
    record = Record(**values, shards=shards, seconds=_finite(raw["seconds"]))
    if not is_key(record.unit):
        raise ValueError("a unit key that is no plain name")
    check_record_meta(record.meta)
    return record


def _shard(raw: dict[str, Any]) -> ShardInfo:
    shard = ShardInfo(**_all_typed(raw, _OF_SHARD))
    if not is_inside(shard.path) or shard.bytes < 0 or shard.rows < 0:
        raise ValueError("a shard outside of its folder, or of negative size")
    return shard


def _finite(value: Any) -> float:
    """A number of JSON; Python's reader would also take NaN, Infinity and 1e400."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no number of JSON")
    return number


def _refuse_twice(names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError("a unit or shard is named twice")


def _all_typed(raw: dict[str, Any], kinds: dict[str, type]) -> dict[str, Any]:
    return {name: _typed(raw, name, kind) for name, kind in kinds.items()}


def _typed(raw: dict[str, Any], name: str, kind: type) -> Any:
    value = raw[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is not {kind.__name__}")
    return value
