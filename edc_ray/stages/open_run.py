"""Opening a run: what is wrong with a config, the data or the folder is found here, before work starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edc_ray.artifacts.layout import RUN_CONFIG, STAGE_FOLDERS, join_path, manifest_path, records_folder
from edc_ray.artifacts.store import Store, open_store
from edc_ray.config.load import load_yaml, to_yaml
from edc_ray.config.run import RunConfig, StageName
from edc_ray.data.sources import OpenedDataset, open_dataset
from edc_ray.errors import ConfigError, EdcRayError
from edc_ray.models.registry import check_network
from edc_ray.stages.context import StageContext
from edc_ray.stages.init_images import check_class_sizes

DEFAULT_ROOT = "runs"


@dataclass(frozen=True)
class Inputs:
    """What a run starts from: the resolved config, the run's folder and the opened images."""

    config: RunConfig
    store: Store
    data: OpenedDataset


def open_inputs(config: RunConfig) -> Inputs:
    """Storage, data and networks of a config, checked.

    Raises:
        EdcRayError: a ConfigError, DataError or ArtifactError naming what is wrong.
    """
    store = open_store(run_url(config), dict(config.storage.options))
    data = open_dataset(config.dataset, config.seed)
    resolved = config.model_copy(update={"dataset": data.spec})
    _check_networks(resolved, data)
    check_class_sizes(resolved, data)
    return Inputs(resolved, store, data)


def open_run(inputs: Inputs, device: torch.device) -> StageContext:
    """The context of a run; its folder now holds the resolved config.

    Args:
        inputs: checked.
        device: where units will compute; its type is part of their fingerprint.

    Raises:
        ConfigError: the folder holds results of another config.
    """
    config = inputs.config.model_copy(update={"device": device.type})
    check_same_run(inputs.store, config)
    inputs.store.publish(RUN_CONFIG, to_yaml(config).encode(), replace=True)
    return StageContext(config, inputs.store, inputs.data, device)


def run_url(config: RunConfig) -> str:
    """<storage.root>/<run.name>; a relative folder is made absolute here, in the driver."""
    root = config.storage.root or DEFAULT_ROOT
    if "://" not in root:
        root = str(Path(root).expanduser().absolute())
    return join_path(root.rstrip("/"), config.run.name)


def check_same_run(store: Store, config: RunConfig) -> None:
    """Refuse to mix results of two configs in one folder.

    Raises:
        ConfigError: a stage has results that this config would make otherwise; names the fields that differ.
    """
    if not store.exists(RUN_CONFIG):
        return
    source = store.join(RUN_CONFIG)
    try:
        earlier = load_yaml(store.read(RUN_CONFIG).decode(), source=source)
    except (EdcRayError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{source} cannot be read by this edc-ray", found=str(error), next="give another run.name"
        ) from error
    for stage in STAGE_FOLDERS:
        different = _differences(earlier.stage_inputs(stage), config.stage_inputs(stage))  # type: ignore[arg-type]
        if different and _has_results(store, stage):  # type: ignore[arg-type]
            raise ConfigError(
                f"{stage}: the run folder {store.url} was made by another config",
                found="; ".join(f"{name}={old!r}" for name, (old, _) in different.items()),
                expected="; ".join(f"{name}={new!r}" for name, (_, new) in different.items()),
                next="give another run.name, or the same values",
            )


def _has_results(store: Store, stage: StageName) -> bool:
    folder = STAGE_FOLDERS[stage]
    return store.exists(manifest_path(folder)) or bool(store.list(records_folder(folder)))


def _differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = sorted(old.keys() | new.keys())
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}


def _check_networks(config: RunConfig, data: OpenedDataset) -> None:
    train = data.train
    for name in dict.fromkeys((*config.squeeze.observers, *config.evaluate.students)):
        check_network(
            name, num_classes=len(train.class_names), image_size=train.image_size, channels=train.channels
        )
