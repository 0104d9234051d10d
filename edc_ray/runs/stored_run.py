"""A stored run: its folder, its complete stages, and how many of their units are done."""

from __future__ import annotations

import json
import posixpath
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from edc_ray.artifacts.proof.manifest import read_manifest
from edc_ray.artifacts.proof.records import Manifest
from edc_ray.artifacts.storage.layout import SWEEP_FOLDER, TRIALS_FOLDER, records_folder, stage_folder
from edc_ray.artifacts.storage.limits import MAX_CONFIG_BYTES
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.config.run import STAGE_NAMES, StageName
from edc_ray.errors import ArtifactError, ConfigError, plural
from edc_ray.stages.units.event_log import read_events


def stored_run(url: str, storage_options: dict[str, Any] | None = None) -> Store:
    """The store of a folder, opened for reading; a ConfigError if it is empty or does not exist."""
    store = open_store(url, storage_options, writable=False)
    if not store.list():
        raise no_run(store.url)
    return store


def no_run(url: str) -> ConfigError:
    return ConfigError(f"there is no run at {url}", next="give the run's folder: <storage.root>/<run.name>")


@dataclass(frozen=True)
class StageState:
    """A stage of a run, and how many of its units are done."""

    state: Literal["complete", "incomplete", "not there", "damaged"]
    units: int
    planned: int | None = None
    """How many there will be; None where no log says so."""

    def __str__(self) -> str:
        count = plural(self.units, "unit")
        if self.planned is not None and self.state == "incomplete":
            count = f"{self.units} of {plural(self.planned, 'unit')}"
        return f"{self.state:<11} {count}"


def stage_states(store: Store) -> dict[StageName, StageState]:
    """The stages of a run, an import or an export; an ArtifactError if its top manifest is damaged."""
    own = read_manifest(store, "")
    return {
        name: _state(store, name, own if own is not None and own.stage == name else None)
        for name in STAGE_NAMES
    }


def trial_states(store: Store) -> dict[str, str]:
    """Trials of a sweep: name -> whether it is complete, and what differs in it. Other runs have none."""
    names = {path.split("/")[1] for path in store.list(SWEEP_FOLDER)} - {"trials"}
    states = dict.fromkeys(sorted(names), "incomplete")
    for path in store.list(TRIALS_FOLDER):
        name = posixpath.basename(path).removesuffix(".json")
        with suppress(ArtifactError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            fields = json.loads(store.read(path, limit=MAX_CONFIG_BYTES))["fields"]
            states[name] = "complete    " + " ".join(f"{field}={value}" for field, value in fields.items())
    return states


def _state(store: Store, stage: StageName, manifest: Manifest | None) -> StageState:
    folder = stage_folder(stage)
    units = len(store.list(records_folder(folder)))
    try:
        manifest = manifest or read_manifest(store, folder)
    except ArtifactError:
        return StageState("damaged", units)
    if manifest:
        return StageState("complete", manifest.num_units)
    return _begun(store, stage, units) if units else StageState("not there", units)


def _begun(store: Store, stage: StageName, records: int) -> StageState:
    """An incomplete stage. Records of an earlier config may lie beside its own, which the log tells apart."""
    events = [event for event in read_events(store) if event.get("stage") == stage]
    kinds = [event.get("event") for event in events]
    if "stage_started" not in kinds:
        return StageState("incomplete", records)
    begun = len(kinds) - 1 - kinds[::-1].index("stage_started")
    planned, reused = events[begun].get("units"), events[begun].get("reused")
    if "stage_done" in kinds[begun:] or not isinstance(planned, int) or not isinstance(reused, int):
        return StageState("incomplete", records)
    if "stage_done" in kinds:
        records = reused + kinds[begun:].count("unit_done")
    return StageState("incomplete", min(records, planned), planned)
