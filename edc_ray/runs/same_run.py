"""Whether a config and images belong to a run's folder, and what to do if they do not."""

from __future__ import annotations

import json
from typing import Any

from edc_ray.artifacts.proof.records import parse_manifest
from edc_ray.artifacts.storage.layout import (
    RUN_CONFIG,
    RUN_DATA,
    manifest_path,
    records_folder,
    stage_folder,
)
from edc_ray.artifacts.storage.limits import MAX_CONFIG_BYTES, MAX_JSON_BYTES
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.history import ABSENT_VALUES, first_name, name_now, unstated
from edc_ray.config.load import mapping_of
from edc_ray.config.run import STAGE_NAMES, RunConfig, StageName
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.errors import ConfigError
from edc_ray.runs.growth import (
    advice,
    follows_classes,
    follows_ipc,
    refuse_to_lose_images,
    with_blocks_of,
)
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units.fingerprint import stage_inputs
from edc_ray.stages.units.plan import Stage
from edc_ray.stages.units.stored_runs import stored_config

_MAX_SHOWN = 1000


def check_same_run(store: Store, config: RunConfig) -> None:
    """Refuse to mix results of two configs in one folder.

    Three things may grow: `ipc` (unless it changes every image), `relabel.epochs`, and the classes, at their
    end. Units that do not depend on what was added stay. A folder whose finished images would all be made
    again is refused. Weights and a `*.source` may move: the units' fingerprints have their content.
    A field that is newer than the folder makes again what it changes.

    Raises:
        ConfigError: results of a stage were made with other values; names the fields that differ.
    """
    earlier = earlier_config(store)
    if earlier is None:
        return
    complete = store.exists(manifest_path(stage_folder("recover")))
    later = _later_fields(store)
    for stage in STAGE_NAMES:
        different = differences(earlier, config, STAGES[stage])
        different |= _dropped(store, stage, config)
        grows = _growing_fields(config)
        different = {
            name: values
            for name, values in different.items()
            if name not in later
            and not (name in grows and _is_growth(*values))
            and not follows_ipc(earlier, config, name)
            and not follows_classes(earlier, config, name)
        }
        if different and _has_results(store, stage):
            raise ConfigError(
                f"{stage}: the run folder {store.url} was made by another config",
                found="; ".join(f"{name}={old!r}" for name, (old, _) in different.items()),
                expected="; ".join(f"{name}={new!r}" for name, (_, new) in different.items()),
                next=advice(earlier, config, store.url, complete=complete)
                or "give another run.name, or the same values",
            )
    if complete:
        refuse_to_lose_images(earlier, config, store.url)


def _growing_fields(config: RunConfig) -> set[str]:
    """Fields that may rise in a folder with results: units are added, and later stages are made again."""
    fields = {field for stage in STAGES.values() for field in stage.growing}
    return fields if STAGES["recover"].ipc_matters(config) else fields | {"ipc"}


def _dropped(store: Store, stage: StageName, config: RunConfig) -> dict[str, tuple[int, int]]:
    """Finished images or labels that a smaller ipc, or fewer epochs, would remove."""
    if stage not in ("recover", "relabel"):
        return {}
    path = manifest_path(stage_folder(stage))
    manifest = (
        parse_manifest(store.read(path, limit=MAX_JSON_BYTES), store.join(path))
        if store.exists(path)
        else None
    )
    kind, field = ("ipc", "ipc") if stage == "recover" else ("epochs", "relabel.epochs")
    held = manifest.meta.get(kind) if manifest else None
    wanted = config.ipc if stage == "recover" else config.relabel.epochs
    return {field: (held, wanted)} if isinstance(held, int) and wanted < held else {}


def earlier_config(store: Store) -> RunConfig | None:
    """The resolved config that a run's folder holds; None in a new one.

    Raises:
        ConfigError: it cannot be read.
    """
    if not store.exists(RUN_CONFIG):
        return None
    return stored_config(store)


def as_it_began(store: Store, config: RunConfig) -> RunConfig:
    """The config with the block sizes of a folder that has images and began with a smaller ipc."""
    if not _has_results(store, "recover"):
        return config
    earlier = earlier_config(store)
    return config if earlier is None else with_blocks_of(earlier, config)


def check_same_data(store: Store, data: OpenedDataset) -> None:
    """Refuse to mix results of other images in one folder, even if no field of the config differs.

    Raises:
        ConfigError: the folder has results of other training or validation images.
    """
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


def _has_results(store: Store, stage: StageName) -> bool:
    folder = stage_folder(stage)
    return store.exists(manifest_path(folder)) or bool(store.list(records_folder(folder)))


def has_any_results(store: Store) -> bool:
    """Whether the folder holds a unit of any stage."""
    return any(_has_results(store, stage) for stage in STAGE_NAMES)


def differences(earlier: RunConfig, config: RunConfig, stage: Stage) -> dict[str, tuple[Any, Any]]:
    """Fields that change a stage's results -> (earlier value, value), where these differ."""
    absent = {first_name(field): value for field, value in ABSENT_VALUES.items()}
    old, new = (absent | stage_inputs(one, stage) for one in (earlier, config))
    names = sorted(old.keys() | new.keys())
    pairs = {name_now(name): (old.get(name), new.get(name)) for name in names}
    return {name: (before, now) for name, (before, now) in pairs.items() if before != now}


def _later_fields(store: Store) -> set[str]:
    """Fields that are newer than the folder's config."""
    text = store.read(RUN_CONFIG, limit=MAX_CONFIG_BYTES)
    return set(unstated(mapping_of(text.decode(), store.join(RUN_CONFIG))))


def _is_growth(old: Any, new: Any) -> bool:
    return old is not None and new is not None and new > old
