"""Whether a config and images belong to a run's folder, and what to do if they do not."""

from __future__ import annotations

import json
import shlex
from typing import Any

from edc_ray.artifacts.storage.layout import RUN_CONFIG, RUN_DATA, manifest_path, records_folder, stage_folder
from edc_ray.artifacts.storage.limits import MAX_CONFIG_BYTES
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.dataset import INFERRED_FIELDS
from edc_ray.config.history import ABSENT_VALUES, first_name, name_now, unstated
from edc_ray.config.load import fields_of, mapping_of
from edc_ray.config.run import STAGE_NAMES, RunConfig, StageName
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.errors import ConfigError
from edc_ray.runs.growth import advice, follows_classes, follows_ipc, refuse_to_lose_images
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units.completeness import stored_manifest
from edc_ray.stages.units.fingerprint import DATASET_LOCATION, stage_inputs
from edc_ray.stages.units.plan import Stage
from edc_ray.stages.units.stored_runs import stored_config

_MAX_SHOWN = 1000
_OF_IMAGES = ("dataset.mean", "dataset.std")
_Differences = dict[str, tuple[Any, Any]]


def check_same_run(store: Store, config: RunConfig) -> None:
    """Refuse to mix results of two configs in one folder: a ConfigError names the fields that differ.

    Three things may grow: `ipc` (unless it changes every image), `relabel.epochs`, and the classes, at their
    end. Units that do not depend on what was added stay. A folder is refused if all its finished images would
    be made again. Weights and a `*.source` may move: the units' fingerprints have their content. A field that
    is newer than the folder makes again what it changes.
    """
    earlier = earlier_config(store)
    if earlier is None:
        return
    complete = store.exists(manifest_path(stage_folder("recover")))
    grows = {field for stage in STAGES.values() for field in stage.growing}
    if not STAGES["recover"].ipc_matters(config):
        grows.add("ipc")
    text = store.read(RUN_CONFIG, limit=MAX_CONFIG_BYTES).decode()
    newer = unstated(mapping_of(text, store.join(RUN_CONFIG)))

    def may_differ(field: str, old: Any, new: Any) -> bool:
        if field in newer or (field in grows and old is not None and new is not None and new > old):
            return True
        return follows_ipc(earlier, config, field) or follows_classes(earlier, config, field)

    refused: _Differences = {}
    first: StageName | None = None
    for stage in STAGE_NAMES:
        found = differences(earlier, config, STAGES[stage]) | _dropped(store, stage, config)
        different = {field: values for field, values in found.items() if not may_differ(field, *values)}
        if different and has_results(store, stage):
            first, refused = first or stage, different | refused
    if first is not None:
        told = _as_given(earlier, config, refused)
        raise ConfigError(
            f"{first}: the run folder {store.url} was made by another config",
            found="; ".join(f"{name}={old!r}" for name, (old, _) in told.items()),
            expected="; ".join(f"{name}={new!r}" for name, (_, new) in told.items()),
            next=advice(earlier, config, store.url, complete=complete)
            or _two_ways(store, earlier, list(told), first),
        )
    if complete:
        refuse_to_lose_images(earlier, config, store.url)


def _as_given(earlier: RunConfig, config: RunConfig, different: _Differences) -> _Differences:
    """The fields that a user set and that led to the differences, with both values."""
    own, theirs = _values(earlier), _values(config)
    causes = {"method"}
    if different.keys() & {f"dataset.{field}" for field in INFERRED_FIELDS}:
        causes |= {f"dataset.{field}" for field in DATASET_LOCATION - {"name"}}
    told = {name: (own[name], theirs[name]) for name in sorted(causes) if own[name] != theirs[name]}
    for name, pair in different.items():
        if name.endswith(".observers") and not own[name] and not theirs[name]:
            told["squeeze.observers"] = own["squeeze.observers"], theirs["squeeze.observers"]
        elif name.endswith(".observers") or name not in own:
            told[name] = pair
        elif own[name] != theirs[name]:
            told[name] = own[name], theirs[name]
    # These follow from the images.
    return {name: told[name] for name in told if name not in _OF_IMAGES} or told or different


def _two_ways(store: Store, earlier: RunConfig, fields: list[str], stage: StageName) -> str:
    """What to do about a folder of another config: a new run, which may take stages with it, or this one."""
    given = _values(earlier)
    same = ["method"] if "method" in fields else fields
    words = " ".join(shlex.quote(f"{field}={_typed(given.get(field))}") for field in same)
    text = f"give another run.name, or go on with this run: {words}"
    if kept := STAGE_NAMES[: STAGE_NAMES.index(stage)]:
        lost = ", ".join(f"{stage_folder(name)}/" for name in STAGE_NAMES[len(kept) :])
        text += f". A copy of {store.url} under the other name, without {lost}, keeps {', '.join(kept)}"
    return text


def _values(config: RunConfig) -> dict[str, Any]:
    return fields_of(config.model_dump(mode="json"))


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _dropped(store: Store, stage: StageName, config: RunConfig) -> dict[str, tuple[int, int]]:
    """Finished images or labels that a smaller ipc, or fewer epochs, would remove."""
    asked = {
        "recover": ("ipc", "ipc", config.ipc),
        "relabel": ("epochs", "relabel.epochs", config.relabel.epochs),
    }
    if stage not in asked:
        return {}
    kind, field, wanted = asked[stage]
    manifest = stored_manifest(store, stage)
    held = manifest.meta.get(kind) if manifest else None
    return {field: (held, wanted)} if isinstance(held, int) and wanted < held else {}


def earlier_config(store: Store) -> RunConfig | None:
    """The resolved config in a run's folder; None in a new folder. ConfigError: it cannot be read."""
    return stored_config(store) if store.exists(RUN_CONFIG) else None


def check_same_data(store: Store, data: OpenedDataset) -> None:
    """Raise a ConfigError if the folder has results of other training or validation images."""
    stored = store.read_if_there(RUN_DATA, limit=MAX_CONFIG_BYTES)
    if stored is None or _content(stored) == _content(data_facts(data)):
        return
    if has_any_results(store):
        raise ConfigError(
            f"the run folder {store.url} was made from other images",
            found=stored.decode(errors="replace")[:_MAX_SHOWN],
            expected=data_facts(data).decode(),
            next="give another run.name, or the same dataset fields and files: observers and statistics "
            "depend on all images, so nothing could be kept",
        )


def data_facts(data: OpenedDataset) -> bytes:
    """What `data.json` holds of training and validation images: number, hash, and which were left out."""
    facts = {}
    for name, images, bad in (("train", data.train, data.bad_train), ("val", data.val, data.bad_val)):
        facts[name] = {"images": len(images), "sha256": images.content_hash} | ({"bad": bad} if bad else {})
    return json.dumps(facts, sort_keys=True).encode()


def _content(facts: bytes) -> Any:
    """What must be equal: the names of the images that were left out change when the data moves."""
    try:
        sets = json.loads(facts)
        return {name: (one["images"], one["sha256"]) for name, one in sets.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return facts


def has_results(store: Store, stage: StageName) -> bool:
    folder = stage_folder(stage)
    return store.exists(manifest_path(folder)) or bool(store.list(records_folder(folder)))


def has_any_results(store: Store) -> bool:
    return any(has_results(store, stage) for stage in STAGE_NAMES)


def differences(earlier: RunConfig, config: RunConfig, stage: Stage) -> dict[str, tuple[Any, Any]]:
    """Fields that change a stage's results, if their values differ -> (earlier value, value)."""
    absent = {first_name(field): value for field, value in ABSENT_VALUES.items()}
    old, new = (absent | stage_inputs(one, stage) for one in (earlier, config))
    names = sorted(old.keys() | new.keys())
    pairs = {name_now(name): (old.get(name), new.get(name)) for name in names}
    return {name: (before, now) for name, (before, now) in pairs.items() if before != now}
