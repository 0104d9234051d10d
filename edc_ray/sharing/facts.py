"""The facts of a condensed set: what it was made of and how, as its run or a copy of it states them.

They hold no secret and no path of the machine, only the settings that determine results and hashes of files.
A copy (imported or compressed) has no config: the manifest of its images holds the facts under "origin". An
import takes them from edc_ray.json. Anyone may have written that file, so it must have the expected form.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from edc_ray.artifacts.proof.manifest import read_manifest
from edc_ray.artifacts.proof.records import Manifest
from edc_ray.artifacts.storage.layout import RUN_CONFIG, RUN_DATA, stage_folder
from edc_ray.artifacts.storage.limits import MAX_CONFIG_BYTES, MAX_JSON_BYTES
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.history import with_names_of_now
from edc_ray.config.run import STAGE_NAMES, RunConfig
from edc_ray.stages.units.stored_runs import stored_config

ABOUT = "edc_ray.json"
"""The facts of an export and the hash of each file. Written last, so its presence means "complete"."""
ORIGIN = "origin"
_SOURCES = ("statistics", "init", "relabel")
_PLACES = {"train", "val", "cache", "download"}


def facts_of(store: Store, manifest: Manifest) -> dict[str, Any]:
    """The facts of a run or copy, by the manifest of its images, as JSON values: those of `_Facts`."""
    if not store.exists(RUN_CONFIG):
        kept = manifest.meta.get(ORIGIN)
        return checked_facts(kept) or _UNKNOWN | {
            "made_by": _environments(store) or {manifest.stage: manifest.environment}
        }
    config = stored_config(store)
    return {
        "method": config.method, "seed": config.seed, "config": _shown(config),
        "data": json.loads(store.read(RUN_DATA, limit=MAX_CONFIG_BYTES)) if store.exists(RUN_DATA) else None,
        "observers": _observers(store), "made_by": _environments(store), "results": _results(store),
    }  # fmt: skip


def facts_beside(store: Store) -> dict[str, Any]:
    """{"origin": facts} of the edc_ray.json of an export, for a manifest; {} if it has none.

    Besides the facts of the set: license, exported_by, and whether it is the whole of what was made.
    """
    text = store.read_if_there(ABOUT, limit=MAX_JSON_BYTES)
    try:
        told = checked_facts(json.loads(text or b"null"))
    except (ValueError, RecursionError):
        told = None
    return {} if told is None or len(json.dumps(told)) > MAX_CONFIG_BYTES else {ORIGIN: told}


_UNKNOWN: dict[str, Any] = {
    "method": None, "seed": None, "config": None, "data": None, "observers": {}, "made_by": {},
    "results": None,
}  # fmt: skip


def _shown(config: RunConfig) -> dict[str, Any]:
    """The settings that determine results, without places of files and other runs."""
    tree = config.model_dump(mode="json")
    numerics = ("device", "precision", "compile", "deterministic")
    shown = {name: tree[name] for name in ("ipc", *numerics, *STAGE_NAMES)}
    shown["dataset"] = {name: value for name, value in tree["dataset"].items() if name not in _PLACES}
    shown["cluster"] = {"threads_per_unit": config.cluster.threads_per_unit}
    shown["squeeze"]["weights"] = {
        name: source if isinstance(source, str) else {"sha256": source.sha256}
        for name, source in config.squeeze.weights.items()
    }
    for section in _SOURCES:
        shown[section]["source"] = shown[section]["source"] is not None
    return shown


def _observers(store: Store) -> dict[str, Any]:
    """Hash of the weights of each observer, and its accuracy on validation images in percent."""
    manifest = read_manifest(store, stage_folder("squeeze"))
    return {
        record.meta["observer"]: {"sha256": shard.sha256, "top1": record.meta.get("top1")}
        for record in (manifest.records if manifest else ())
        for shard in record.shards
    }


def _environments(store: Store) -> dict[str, Any]:
    manifests = {stage: read_manifest(store, stage_folder(stage)) for stage in STAGE_NAMES}
    return {stage: manifest.environment for stage, manifest in manifests.items() if manifest is not None}


def _results(store: Store) -> dict[str, Any] | None:
    manifest = read_manifest(store, stage_folder("evaluate"))
    if manifest is None:
        return None
    return {
        "students": manifest.meta["results"],
        "full_cited": manifest.meta.get("full_cited"),
        "hardware": manifest.environment.get("hardware"),
    }


def checked_facts(told: Any) -> dict[str, Any] | None:
    """The facts in a JSON value; None if they do not have the form."""
    try:
        return _Facts.model_validate(told).model_dump(mode="json", exclude_unset=True)
    except ValidationError:
        return None


class _Part(BaseModel):
    """The fields that are read. There may be others."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Init(_Part):
    kind: str


class _Recover(_Part):
    enabled: bool
    iterations: int


class _Relabel(_Part):
    epochs: int
    mix: str
    labels: str


class _Config(_Part):
    device: str
    precision: str
    init: _Init
    recover: _Recover
    relabel: _Relabel

    @model_validator(mode="before")
    @classmethod
    def _with_names_of_now(cls, told: Any) -> Any:
        """An earlier edc-ray may have written it."""
        return with_names_of_now(told) if isinstance(told, dict) else told


class _Train(_Part):
    images: int
    sha256: str


class _Data(_Part):
    train: _Train


class _Observer(_Part):
    sha256: str
    top1: float | None = None


class _Student(_Part):
    row: Literal["condensed", "init", "random", "random_hard", "full"]
    ipc: int | None
    student: str
    seed: int
    top1: float
    top5: float | None = None
    ece: float | None = None
    note: str | None = None


class _Results(_Part):
    students: list[_Student]
    full_cited: float | None = None
    hardware: str | None = None

    @field_validator("students")
    @classmethod
    def _each_once(cls, students: list[_Student]) -> list[_Student]:
        if len({(one.row, one.ipc, one.student, one.seed) for one in students}) < len(students):
            raise ValueError("a student is there twice")
        return students


class _Images(_Part):
    whole: bool


class _Facts(BaseModel):
    """The facts of edc_ray.json. Nothing else of it is kept."""

    model_config = ConfigDict(extra="ignore", strict=True)

    method: str | None = Field(max_length=80)
    seed: int | None
    config: _Config | None
    data: _Data | None
    observers: dict[str, _Observer]
    made_by: dict[str, dict[str, str]]
    results: _Results | None
    images: _Images | None = None
    license: str | None = Field(None, max_length=80)
    exported_by: str | None = Field(None, max_length=80)
