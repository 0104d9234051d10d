"""Opening a run: what is wrong with a config, the data or the folder is found here, before work starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edc_ray.artifacts.proof.records import parse_manifest
from edc_ray.artifacts.storage.layout import (
    RUN_CONFIG,
    RUN_DATA,
    join_path,
    manifest_path,
    stage_folder,
)
from edc_ray.artifacts.storage.limits import MAX_JSON_BYTES
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.config.load import to_yaml
from edc_ray.config.run import STAGE_NAMES, RunConfig
from edc_ray.config.stages import EvaluateConfig, SqueezeConfig, WeightsFile
from edc_ray.core.labels.specification import label_codec
from edc_ray.core.layers.accumulator import LayerKind
from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.students.accuracy import fewest_images_above_chance
from edc_ray.data.real.sources import OpenedDataset, open_dataset
from edc_ray.errors import ConfigError, DataError
from edc_ray.models.construction import unknown_network
from edc_ray.models.pretrained import check_source
from edc_ray.models.registry import check_network, network_names
from edc_ray.models.weight_files import check_local_weights
from edc_ray.runs.growth import (
    added_names,
)
from edc_ray.runs.same_run import (
    as_it_began,
    check_same_data,
    check_same_run,
    data_facts,
    earlier_config,
    has_any_results,
)
from edc_ray.stages.init.stage import check_class_sizes
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.statistics.source import check_statistics_source
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.numerics import check_numerics, chosen_precision
from edc_ray.stages.units.provenance import environment_facts
from edc_ray.stages.units.stored_runs import check_sources

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
    config = _with_whole_paths(config)
    store = replace(open_store(run_url(config), dict(config.storage.options)), is_ours=True)
    data = open_dataset(config.dataset, config.seed)
    resolved = as_it_began(store, config.model_copy(update={"dataset": data.spec}))
    check_networks(resolved, data)
    check_weights(resolved.squeeze, len(data.train.class_names))
    _check_weight_files(resolved, store)
    label_codec(resolved.relabel.codec)
    _check_groups(resolved)
    _check_bands(resolved, data.train.image_size)
    check_rates(resolved.evaluate)
    _check_validation(resolved, data)
    check_class_sizes(resolved, data)
    check_statistics_source(resolved, data)
    check_sources(resolved, data, STAGES["recover"])
    return Inputs(resolved, store, data)


def open_run(inputs: Inputs, device: torch.device) -> StageContext:
    """The context of a run; its folder now holds the resolved config.

    Args:
        inputs: checked.
        device: where units will compute; its type is part of their fingerprint, and so is the precision.

    Raises:
        ConfigError: the folder holds results of another config, or the device cannot compute as asked for.
    """
    environment_facts(device)
    refuse_newer_manifests(inputs.store)
    earlier = earlier_config(inputs.store)
    begun = earlier if has_any_results(inputs.store) else None
    config = inputs.config.model_copy(
        update={"device": device.type, "precision": chosen_precision(inputs.config, device, begun)}
    )
    check_numerics(config, device)
    check_same_run(inputs.store, config)
    if earlier is not None and added_names(earlier, config):
        # Units know the images of their classes. Killed between the two files, the run can go on with either.
        inputs.store.delete(RUN_DATA)
    else:
        check_same_data(inputs.store, inputs.data)
    inputs.store.publish(RUN_CONFIG, to_yaml(config).encode(), replace=True)
    inputs.store.publish(RUN_DATA, data_facts(inputs.data), replace=True)
    return StageContext(config, inputs.store, inputs.data, device)


def run_url(config: RunConfig) -> str:
    """<storage.root>/<run.name>; a relative folder is made absolute here, in the driver."""
    if config.storage.root is None and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        raise ConfigError(
            "a job needs storage.root: its folder is thrown away with it",
            next="storage.root=URL, a place that outlives the job and that every node sees",
        )
    root = config.storage.root or DEFAULT_ROOT
    if "://" not in root:
        root = str(Path(root).expanduser().absolute())
    return join_path(root.rstrip("/"), config.run.name)


def device_of_whole_run(store: Store) -> str | None:
    """The type of device on which a run was made that has a manifest of every stage; else None."""
    if not all(store.exists(manifest_path(stage_folder(stage))) for stage in STAGE_NAMES):
        return None
    try:
        config = earlier_config(store)
    except ConfigError:
        return None
    return None if config is None else config.device


def refuse_newer_manifests(store: Store) -> None:
    """Raise ArtifactError where a newer edc-ray completed a stage. A damaged manifest proves nothing."""
    for path in [manifest_path(stage_folder(stage)) for stage in STAGE_NAMES]:
        if store.exists(path):
            parse_manifest(store.read(path, limit=MAX_JSON_BYTES), store.join(path))


def _check_groups(config: RunConfig) -> None:
    for name, workers in (("squeeze", config.squeeze.num_workers), ("evaluate", config.evaluate.num_workers)):
        if config.cluster.address == "none" and workers > 1:
            raise ConfigError(
                f"{name}.num_workers={workers} trains one network in several processes, which needs Ray",
                found="cluster.address=none",
                next=f"set {name}.num_workers=1, or cluster.address=local",
            )


def _check_bands(config: RunConfig, image_size: int) -> None:
    if config.relabel.patch_shuffle > image_size:
        raise ConfigError(
            "relabel.patch_shuffle asks for more bands than an image has pixels",
            found=f"{config.relabel.patch_shuffle} bands",
            expected=f"at most {image_size}",
            next="set relabel.patch_shuffle to init.factor, so that the cells of a mosaic are shuffled",
        )


def check_rates(evaluate: EvaluateConfig) -> None:
    """Refuse a rate of a student that there is not: it would be another one's by a slip.

    Raises:
        ConfigError: names the nearest.
    """
    known = list(dict.fromkeys((*network_names(), *evaluate.students)))
    for name in evaluate.learning_rates:
        if name not in known:
            error = unknown_network(name, known, "a plain name, or one of evaluate.students")
            summary = f"evaluate.learning_rates: {error.summary}"
            raise ConfigError(summary, expected=error.expected, next=error.next)


def _check_validation(config: RunConfig, data: OpenedDataset) -> None:
    if data.train.content_hash == data.val.content_hash:
        raise DataError(
            "the validation images are the training images",
            expected="images that no network was trained on",
            next="give other images, or leave dataset.val unset to hold out a part of the training images",
        )
    num_classes = len(data.train.class_names)
    fewest = fewest_images_above_chance(num_classes)
    if len(data.val) < fewest and not config.dataset.allow_weak_observers:
        raise DataError(
            "too few validation images to tell any observer from one that guesses",
            found=f"{len(data.val)} validation image{'s' if len(data.val) != 1 else ''}",
            expected=f"at least {fewest} for {num_classes} classes",
            next="give more (dataset.val, dataset.val_fraction or dataset.max_val_per_class), "
            "or set dataset.allow_weak_observers=true",
        )


def check_networks(config: RunConfig, data: OpenedDataset) -> None:
    """Refuse networks that do not exist, cannot take the images, or have nothing that recover could match.

    Raises:
        ConfigError: the first of them.
    """
    train, matched = data.train, config.observers_of("recover") if config.recover.enabled else ()
    for name in dict.fromkeys((*config.squeeze.observers, *config.evaluate.students)):
        network = check_network(
            name, num_classes=len(train.class_names), image_size=train.image_size, channels=train.channels
        )
        if name in matched:
            _check_layers(name, network, config.recover.layers)


def _check_layers(name: str, network: nn.Module, kinds: Sequence[LayerKind]) -> None:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if any(norm.running_mean is None for norm in norms):
        raise ConfigError(
            f"recover cannot match observer '{name}'",
            found="a BatchNorm2d that keeps no running statistics",
            next="build it with track_running_stats=True",
        )
    try:
        LayerTaps(network, kinds)
    except ValueError as error:
        raise ConfigError(
            f"recover cannot match observer '{name}': it has no layer whose statistics could be matched",
            expected=f"BatchNorm2d or Conv2d, as recover.layers=[{','.join(kinds)}] says",
            next="leave it out of recover.observers, or add conv to recover.layers",
        ) from error


def check_weights(squeeze: SqueezeConfig, num_classes: int) -> None:
    """Refuse pretrained weights that there cannot be, or that know other classes, as far as is known here.

    Raises:
        ConfigError: the first of them.
    """
    if squeeze.head_classes is not None and not squeeze.weights:
        raise ConfigError(
            "squeeze.head_classes is about pretrained heads", found="no pretrained observer",
            next="set squeeze.weights, or leave squeeze.head_classes unset",
        )  # fmt: skip
    if squeeze.head_classes is not None and len(squeeze.head_classes) != num_classes:
        raise ConfigError(
            "squeeze.head_classes does not fit the dataset",
            found=f"{len(squeeze.head_classes)} indices",
            expected=f"{num_classes}, one for each class in label order",
        )
    for name, source in squeeze.weights.items():
        known = check_source(name, str(source))
        if known in (None, num_classes) or squeeze.head_classes is not None or squeeze.epochs:
            continue
        raise ConfigError(
            f"the weights of observer '{name}' know other classes than the dataset",
            found=f"{known} classes",
            expected=f"{num_classes} classes",
            next="say which of them the dataset's are with squeeze.head_classes=[...], or let a fresh head "
            "be trained with squeeze.epochs above 0",
        )


def _check_weight_files(config: RunConfig, store: Store) -> None:
    if store.exists(manifest_path(stage_folder("squeeze"))):
        return  # the observers are made: their files may have gone
    for source in config.squeeze.weights.values():
        if isinstance(source, WeightsFile):
            check_local_weights(source.url, source.sha256)


def _with_whole_paths(config: RunConfig) -> RunConfig:
    """Local files by their absolute paths: a worker, and who opens run.yaml later, may stand elsewhere."""
    weights = {
        name: source if isinstance(source, str) else source.model_copy(update={"url": _whole(source.url)})
        for name, source in config.squeeze.weights.items()
    }
    places = {
        "dataset": ("train", "val"), "statistics": ("source",), "init": ("source",), "relabel": ("source",),
    }  # fmt: skip
    update: dict[str, Any] = {"squeeze": config.squeeze.model_copy(update={"weights": weights})}
    for name, fields in places.items():
        section = getattr(config, name)
        given = {field: _whole(url) for field in fields if (url := getattr(section, field)) is not None}
        update[name] = section.model_copy(update=given)
    return config.model_copy(update=update)


def _whole(url: str) -> str:
    # "sklearn:digits" and "torchvision:cifar10" are names, and a URL has its scheme.
    return url if ":" in url else str(Path(url).expanduser().absolute())
