"""Recipes: a dataset and a method combined into one config. Each docstring states the row aimed at.

A recipe is a function of ipc, because some published values depend on it. Its method is `edc`; the function
of another method, applied to it, sets that method's values for the dataset.
"""

from __future__ import annotations

from collections.abc import Callable

from edc_ray.config.cluster import RunSection
from edc_ray.config.dataset import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, DatasetSpec
from edc_ray.config.methods.edc import edc
from edc_ray.config.run import RunConfig
from edc_ray.config.section import Section
from edc_ray.config.stages import EvaluateConfig, RelabelConfig, SqueezeConfig, StatisticsConfig

Recipe = Callable[..., RunConfig]

# In the order of the labels of the official program.
IMAGENET10_CLASSES = (
    "n02869837", "n01749939", "n02488291", "n02107142", "n13037406",
    "n02091831", "n04517823", "n04589890", "n03062245", "n01773797",
)  # fmt: skip


def digits(ipc: int = 1) -> RunConfig:
    """8x8 grey digits from scikit-learn: a demo of minutes that aims at no published row."""
    spec = DatasetSpec(name="digits", train="sklearn:digits", val_fraction=0.25, image_size=16, flip=False)
    return _recipe(
        spec,
        ipc,
        student="convnet_w32",
        statistics=StatisticsConfig(batches_per_unit=6),
        relabel=RelabelConfig(epochs_per_unit=50),
    )


def cifar10(ipc: int = 10) -> RunConfig:
    """CIFAR-10, ResNet-18, ipc 10: 79.1 +- 0.3 in Table 1 of the paper."""
    return _recipe(_cifar("cifar10", 10), ipc, student="resnet18_small")


def cifar100(ipc: int = 10) -> RunConfig:
    """CIFAR-100, ResNet-18, ipc 10: 63.7 +- 0.3 in Table 1 of the paper."""
    return _recipe(_cifar("cifar100", 100), ipc, student="resnet18_small")


def tiny_imagenet(ipc: int = 10) -> RunConfig:
    """Tiny-ImageNet, ResNet-18, ipc 10: 51.2 +- 0.5 in Table 1. Give dataset.train and dataset.val."""
    return _recipe(_imagenet("tiny_imagenet", 200, 64), ipc, student="resnet18_small")


def imagenet10(ipc: int = 10) -> RunConfig:
    """ImageNet-10, ResNet-18, ipc 10: 63.4 +- 0.1 in Table 1. Give dataset.train and dataset.val."""
    spec = _imagenet("imagenet10", 10, 224).model_copy(update={"class_names": IMAGENET10_CLASSES})
    return _recipe(spec, ipc, student="resnet18")


def imagenet1k(ipc: int = 10) -> RunConfig:
    """ImageNet-1k, ResNet-18, ipc 10: 48.6 +- 0.3 in Table 1. Give dataset.train and dataset.val."""
    # A unit stores sums of 1000 classes for every observer, 2.4 GB: eleven such units rather than 157.
    statistics = StatisticsConfig(batches_per_unit=500)
    return _recipe(_imagenet("imagenet1k", 1000, 224), ipc, student="resnet18", statistics=statistics)


RECIPES: dict[str, Recipe] = {
    recipe.__name__: recipe for recipe in (digits, cifar10, cifar100, tiny_imagenet, imagenet10, imagenet1k)
}


def _recipe(spec: DatasetSpec, ipc: int, *, student: str, **sections: Section) -> RunConfig:
    """A dataset with `edc`; fields that the method does not set come from `sections`."""
    return edc(
        RunConfig(
            ipc=ipc,
            run=RunSection(name=spec.name),
            dataset=spec,
            squeeze=SqueezeConfig(observers=(student,)),  # replaced by the method's
            evaluate=EvaluateConfig(students=(student,)),
            **sections,  # type: ignore[arg-type]
        )
    )


def _cifar(name: str, num_classes: int) -> DatasetSpec:
    source = f"torchvision:{name}"
    return DatasetSpec(
        name=name, train=source, val=source, num_classes=num_classes, image_size=32, channels=3,
        mean=CIFAR_MEAN, std=CIFAR_STD,
    )  # fmt: skip


def _imagenet(name: str, num_classes: int, image_size: int) -> DatasetSpec:
    return DatasetSpec(
        name=name, num_classes=num_classes, image_size=image_size, channels=3, mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )  # fmt: skip
