"""A record and a manifest as values and as JSON. Anyone may have written the JSON: every field is checked."""

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
# Absent in the first runs. A wrong mean or class name would be believed, while every file has its own hash.
_DIGEST = "sha256"
# What damaged or hostile JSON makes Python raise, besides our own errors.
_DAMAGE = (ValueError, TypeError, KeyError, RecursionError, OverflowError)


@dataclass(frozen=True)
class ShardInfo:
    """One file. `path` is relative to the folder of its stage."""

    path: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class Record:
    """Proof that one work unit is done. `environment`: versions, hardware and commit of what made it."""

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
    """Proof that a stage is complete, and all that a reader needs to know of it.

    Args:
        stage: name of the stage.
        fingerprint: hash of whatever changes its result.
        config_digest: hash of the run's resolved config.
        dataset: {"name": ..., "class_names": [...]}.
        records: of all units, in plan order.
        meta: JSON values for readers, such as mean and std.
        environment: versions, hardware, commit of what made the units; several values where they differ.
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
    """Canonical JSON: the same value gives the same bytes. It states the hash of all else in it.

    Raises:
        TypeError, ValueError: `meta` holds something that is not JSON, or a NaN.
    """
    tree = asdict(value)
    stated = tree | {_DIGEST: _digest(tree)}
    return json.dumps(stated, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def parse_record(data: bytes, url: str) -> Record | None:
    """A record from its JSON; None where it is none. A newer version raises ArtifactError naming `url`."""
    try:
        return _record(_versioned(data, url))
    except _DAMAGE:
        return None


def parse_manifest(data: bytes, url: str) -> Manifest | None:
    """A manifest from its JSON; None where it is none. A newer version raises ArtifactError naming `url`."""
    try:
        raw = _versioned(data, url)
        manifest = Manifest(
            stage=_typed(raw, "stage", str),
            fingerprint=_typed(raw, "fingerprint", str),
            config_digest=_typed(raw, "config_digest", str),
            dataset=_typed(raw, "dataset", dict),
            records=tuple(_record(record) for record in _typed(raw, "records", list)),
            meta=_typed(raw, "meta", dict),
            environment=_typed(raw, "environment", dict),
            schema_version=_typed(raw, "schema_version", int),
        )
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
    """Of what is said, not of how it is written down. ValueError: half a character, which JSON can say."""
    options: dict[str, Any] = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
    return hashlib.sha256(json.dumps(tree, allow_nan=False, **options).encode()).hexdigest()


def _record(raw: dict[str, Any]) -> Record:
    record = Record(
        stage=_typed(raw, "stage", str),
        unit=_typed(raw, "unit", str),
        fingerprint=_typed(raw, "fingerprint", str),
        shards=tuple(_shard(shard) for shard in _typed(raw, "shards", list)),
        meta=_typed(raw, "meta", dict),
        seconds=_finite(raw["seconds"]),
        environment=_typed({"environment": {}} | raw, "environment", dict),  # absent in the first runs
        schema_version=_typed(raw, "schema_version", int),
    )
    if not is_key(record.unit):
        raise ValueError("a unit key that is no plain name")
    check_record_meta(record.meta)
    return record


def _shard(raw: dict[str, Any]) -> ShardInfo:
    shard = ShardInfo(
        _typed(raw, "path", str),
        _typed(raw, "bytes", int),
        _typed(raw, "sha256", str),
        _typed(raw, "rows", int),
    )
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


def _typed(raw: dict[str, Any], name: str, kind: type) -> Any:
    value = raw[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is not {kind.__name__}")
    return value
