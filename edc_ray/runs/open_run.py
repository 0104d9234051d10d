"""Opening a run: refuses a wrong config, data or folder before any work starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edc_ray.artifacts.storage.layout import RUN_CONFIG, RUN_DATA, join_path, manifest_path, stage_folder
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.config.load import to_yaml, validated
from edc_ray.config.run import STAGE_NAMES, RunConfig
from edc_ray.data.real.device_decoding import check_device_decoder
from edc_ray.data.real.sources import OpenedDataset, open_dataset
from edc_ray.errors import ConfigError
from edc_ray.runs.growth import added_names, with_blocks_of
from edc_ray.runs.placement import in_ray_job
from edc_ray.runs.same_run import (
    check_same_data,
    check_same_run,
    data_facts,
    earlier_config,
    has_any_results,
    has_results,
)
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units.completeness import stored_manifest
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.numerics import check_numerics, chosen_precision
from edc_ray.stages.units.provenance import environment_facts

DEFAULT_ROOT = "runs"


@dataclass(frozen=True)
class Inputs:
    """What a run starts from: the resolved config, the run's folder and the opened images."""

    config: RunConfig
    store: Store
    data: OpenedDataset


def open_inputs(config: RunConfig) -> Inputs:
    """Storage, data and networks of a config, checked; an EdcRayError says what is wrong."""
    # A config may be a copy with other values, and what is stored must be readable.
    config = _with_whole_paths(validated(config.model_dump(mode="json")))
    store = open_store_of(config)
    data = open_dataset(config.dataset, config.seed)
    resolved = config.model_copy(update={"dataset": data.spec})
    earlier = earlier_config(store) if has_results(store, "recover") else None
    if earlier is not None:
        resolved = with_blocks_of(earlier, resolved)
    for name, stage in STAGES.items():
        if resolved.cluster.address == "none" and (workers := stage.num_workers(resolved)) > 1:
            raise ConfigError(
                f"{name}.num_workers={workers} trains one network in several processes, which needs Ray",
                found="cluster.address=none",
                next=f"set {name}.num_workers=1, or cluster.address=local",
            )
    for stage in STAGES.values():
        stage.check(resolved, data, store)
    return Inputs(resolved, store, data)


def open_run(inputs: Inputs, device: torch.device) -> StageContext:
    """The context of a run, whose folder now has the resolved config; a ConfigError if they do not fit."""
    environment_facts(device)
    for stage in STAGE_NAMES:
        stored_manifest(inputs.store, stage)  # raises if a newer edc-ray wrote it
    earlier = earlier_config(inputs.store)
    begun = earlier if has_any_results(inputs.store) else None
    config = inputs.config.model_copy(
        update={"device": device.type, "precision": chosen_precision(inputs.config, device, begun)}
    )
    check_numerics(config, device)
    _check_decoder(config, device)
    check_same_run(inputs.store, config)
    if earlier is not None and added_names(earlier, config):
        # Units compare the images of their own classes. A run killed between the two writes can resume.
        inputs.store.delete(RUN_DATA)
    else:
        check_same_data(inputs.store, inputs.data)
    inputs.store.publish(RUN_CONFIG, to_yaml(config).encode(), replace=True)
    inputs.store.publish(RUN_DATA, data_facts(inputs.data), replace=True)
    return StageContext(config, inputs.store, inputs.data, device)


def _check_decoder(config: RunConfig, device: torch.device) -> None:
    if config.dataset.decoder == "pillow":
        return
    if device.type != "cuda":
        raise ConfigError(
            "dataset.decoder=device needs CUDA",
            found=f"device {device.type}",
            next="set dataset.decoder=pillow, or run on a machine with a GPU",
        )
    if torch.cuda.is_available():  # the driver's own machine may have no GPU
        check_device_decoder(device)


def open_store_of(config: RunConfig) -> Store:
    """The store of a config's run."""
    store = open_store(run_url(config), dict(config.storage.options))
    return replace(store, is_ours=True, patience=config.storage.patience_seconds)


def run_url(config: RunConfig) -> str:
    """<storage.root>/<run.name>."""
    return join_path(_whole_root(config).rstrip("/"), config.run.name)


def _whole_root(config: RunConfig) -> str:
    """storage.root; a relative folder is made absolute here, in the driver."""
    if config.storage.root is None and in_ray_job():
        raise ConfigError(
            "a job needs storage.root: its folder is thrown away with it",
            next="storage.root=URL, a place that outlives the job and that every node sees",
        )
    root = config.storage.root or DEFAULT_ROOT
    return root if "://" in root else str(Path(root).expanduser().absolute())


def device_of_whole_run(store: Store) -> str | None:
    """The device type of a run that is complete in every stage; None for any other run."""
    if not all(store.exists(manifest_path(stage_folder(stage))) for stage in STAGE_NAMES):
        return None
    try:
        config = earlier_config(store)
    except ConfigError:
        return None
    return None if config is None else config.device


def _with_whole_paths(config: RunConfig) -> RunConfig:
    """Local places by absolute paths: a worker, or a later reader of run.yaml, may have another folder."""
    weights = {
        name: source if isinstance(source, str) else source.model_copy(update={"url": _whole(source.url)})
        for name, source in config.squeeze.weights.items()
    }
    update: dict[str, Any] = {
        "squeeze": config.squeeze.model_copy(update={"weights": weights}),
        "storage": config.storage.model_copy(update={"root": _whole_root(config)}),
    }
    for name, section in config:
        places = {field: getattr(section, field, None) for field in ("train", "val", "source")}
        if given := {field: _whole(url) for field, url in places.items() if url is not None}:
            update[name] = section.model_copy(update=given)
    return config.model_copy(update=update)


def _whole(url: str) -> str:
    # "sklearn:digits" and "torchvision:cifar10" are names, and a URL has its scheme.
    return url if ":" in url else str(Path(url).expanduser().absolute())
