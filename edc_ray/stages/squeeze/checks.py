"""What squeeze refuses before it starts: unfit networks, weights and validation images."""

from __future__ import annotations

from edc_ray.artifacts.storage.layout import manifest_path, stage_folder
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.run import RunConfig
from edc_ray.config.stages import SqueezeConfig, WeightsFile
from edc_ray.core.students.accuracy import fewest_images_above_chance
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.errors import ConfigError, DataError
from edc_ray.models.pretrained import check_source
from edc_ray.models.registry import check_network
from edc_ray.models.weight_files import check_local_weights


def check(config: RunConfig, data: OpenedDataset, store: Store) -> None:
    """See `Stage.check`."""
    for name in config.squeeze.observers:
        check_network(name, **data.train.network_shape)
    _check_weights(config.squeeze, len(data.train.class_names))
    _check_weight_files(config.squeeze, store)
    _check_validation(config, data)


def _check_weights(squeeze: SqueezeConfig, num_classes: int) -> None:
    """Refuse pretrained weights that do not exist or know other classes, as far as their names tell."""
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


def _check_weight_files(squeeze: SqueezeConfig, store: Store) -> None:
    if store.exists(manifest_path(stage_folder("squeeze"))):
        return  # the observers are there, so the files are not needed any more
    for source in squeeze.weights.values():
        if isinstance(source, WeightsFile):
            check_local_weights(source.url, source.sha256)


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
