"""A stored run: its folder, its complete stages, and how many of their units are done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edc_ray.artifacts.proof.manifest import read_manifest
from edc_ray.artifacts.proof.records import Manifest
from edc_ray.artifacts.storage.layout import records_folder, stage_folder
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.config.run import STAGE_NAMES, StageName
from edc_ray.errors import ArtifactError, ConfigError


def stored_run(url: str, storage_options: dict[str, Any] | None = None) -> Store:
    """The store of a folder, opened for reading; a ConfigError if it is empty or does not exist."""
    store = open_store(url, storage_options, writable=False)
    if not store.list():
        raise ConfigError(
            f"there is no run at {store.url}", next="give the run's folder: <storage.root>/<run.name>"
        )
    return store


@dataclass(frozen=True)
class StageState:
    """A stage of a run, and how many of its units are done."""

    state: Literal["complete", "incomplete", "not there", "damaged"]
    units: int


def stage_states(store: Store) -> dict[StageName, StageState]:
    """The stages of a run, an import or an export; an ArtifactError if its top manifest is damaged."""
    own = read_manifest(store, "")
    return {
        name: _state(store, stage_folder(name), own if own is not None and own.stage == name else None)
        for name in STAGE_NAMES
    }


def _state(store: Store, folder: str, manifest: Manifest | None) -> StageState:
    units = len(store.list(records_folder(folder)))
    try:
        manifest = manifest or read_manifest(store, folder)
    except ArtifactError:
        return StageState("damaged", units)
    if manifest:
        return StageState("complete", len(manifest.records))
    return StageState("incomplete" if units else "not there", units)
