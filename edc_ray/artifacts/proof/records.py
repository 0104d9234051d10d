"""Records and manifests as values and as JSON. Anyone may have written the JSON, so each field is checked.

Any JSON value may stand in `meta` and `dataset`. Only what a reader uses is checked, and only if it is there.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, StrictInt, TypeAdapter

from edc_ray.artifacts.storage.layout import is_inside, is_key
from edc_ray.errors import ArtifactError

SCHEMA_VERSION = 1
# Absent in the first runs. Files have hashes of their own; this one protects the means and class names.
_DIGEST = "sha256"
JOINED_UNITS = "joined_units"
"""Key in a manifest's meta: how many units there are, where its records are not theirs."""
# What damaged or hostile JSON makes Python raise, besides our own errors.
_DAMAGE = (ValueError, TypeError, KeyError, RecursionError, OverflowError)
_MAX_EPOCHS = 2**20
_LEAST_STD = 1e-6  # pixels are divided by it
_OF_RECORD = {"meta", "seconds"}  # the first runs' records lack the environment
_Count = Annotated[StrictInt, Field(ge=0)]


class _UnitFacts(BaseModel):
    """The first and last epoch of a unit; label, ipc id and hash of each of its images."""

    epochs: tuple[_Count, _Count] = (0, 0)
    image_sha256: list[tuple[_Count, _Count, str]] = Field(default_factory=list)


class _StageFacts(BaseModel):
    model_config = ConfigDict(strict=True)

    class_names: list[str] | None = None
    mean: list[FiniteFloat] | None = None
    std: list[Annotated[FiniteFloat, Field(ge=_LEAST_STD)]] | None = None


def _checked_by(is_sound: Callable[[str], bool]) -> AfterValidator:
    def check(text: str) -> str:
        if not is_sound(text):
            raise ValueError(f"{text} is no name of a unit, or leads out of the folder")
        return text

    return AfterValidator(check)


def _checked_meta(meta: dict[str, Any]) -> dict[str, Any]:
    facts = _UnitFacts.model_validate(meta)
    first, last = facts.epochs
    if not first <= last < _MAX_EPOCHS:
        raise ValueError(f"epochs {first} to {last} of a unit")
    _refuse_twice([image[:2] for image in facts.image_sha256])
    return meta


@dataclass(frozen=True)
class ShardInfo:
    """One file. `path` is relative to the folder of its stage."""

    path: Annotated[str, _checked_by(is_inside)]
    bytes: _Count
    sha256: str
    rows: _Count


@dataclass(frozen=True)
class Record:
    """Proof that one work unit is done. `environment`: the versions, hardware and commit that made it."""

    stage: str
    unit: Annotated[str, _checked_by(is_key)]
    fingerprint: str
    shards: tuple[ShardInfo, ...]
    meta: Annotated[dict[str, Any], AfterValidator(_checked_meta)] = field(default_factory=dict)
    seconds: FiniteFloat = 0.0
    environment: dict[str, Any] = field(default_factory=dict)
    schema_version: StrictInt = SCHEMA_VERSION


@dataclass(frozen=True)
class Manifest:
    """Proof that a stage is complete, with all that a reader needs to know about it.

    Args:
        fingerprint: hash of everything that changes its result.
        config_digest: hash of the run's resolved config.
        dataset: {"name": ..., "class_names": [...]}.
        records: of all units, in plan order.
        meta: JSON values for readers, such as mean and std.
        environment: as of the records; several values if they differ.
    """

    stage: str
    fingerprint: str
    config_digest: str
    dataset: dict[str, Any]
    records: tuple[Record, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    schema_version: StrictInt = SCHEMA_VERSION

    @property
    def num_units(self) -> int:
        joined = self.meta.get(JOINED_UNITS)
        return joined if isinstance(joined, int) else len(self.records)

    @property
    def shards(self) -> tuple[ShardInfo, ...]:
        return tuple(shard for record in self.records for shard in record.shards)


def to_json(value: Record | Manifest) -> bytes:
    """Canonical JSON that states its own hash; a TypeError or ValueError if `meta` is no JSON."""
    tree = asdict(value)
    stated = tree | {_DIGEST: _digest(tree)}
    return json.dumps(stated, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def parse_record(data: bytes, url: str) -> Record | None:
    """A record from its JSON, or None if it is none. A newer version: an ArtifactError naming `url`."""
    try:
        return _RECORD.validate_python(_with_all(_versioned(data, url), _OF_RECORD))
    except _DAMAGE:
        return None


def parse_manifest(data: bytes, url: str) -> Manifest | None:
    """A manifest from its JSON, or None if it is none. A newer version: an ArtifactError naming `url`."""
    try:
        raw = _with_all(_versioned(data, url), {"meta", "environment"})
        records = [_with_all(record, _OF_RECORD) for record in raw["records"]]
        manifest = _MANIFEST.validate_python(raw | {"records": records})
        _StageFacts.model_validate(manifest.meta | {"class_names": manifest.dataset.get("class_names")})
        _refuse_twice([record.unit for record in manifest.records])
        _refuse_twice([shard.path for shard in manifest.shards])
        if manifest.stage == "relabel":
            epochs = sorted(record.meta["epochs"] for record in manifest.records)
            if any(first <= last for (_, last), (first, _) in pairwise(epochs)):
                raise ValueError("two units of one epoch")
        return manifest
    except _DAMAGE:
        return None


_RECORD, _MANIFEST = TypeAdapter(Record), TypeAdapter(Manifest)


def _versioned(data: bytes, url: str) -> dict[str, Any]:
    raw = json.loads(data, parse_float=_finite, parse_constant=_finite)
    version = raw["schema_version"]
    if type(version) is int and version > SCHEMA_VERSION:
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


def _finite(value: str) -> float:
    """A number of JSON. Python's reader would also take NaN, Infinity and 1e400."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no number of JSON")
    return number


def _with_all(raw: dict[str, Any], names: set[str]) -> dict[str, Any]:
    if missing := names - set(raw):
        raise KeyError(*missing)
    return raw


def _refuse_twice(names: Sequence[Any]) -> None:
    if len(set(names)) < len(names):
        raise ValueError("an image, a unit or a shard is named twice")
