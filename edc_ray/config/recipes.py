"""Recipes: a dataset and a method combined into one config. Each docstring states the row aimed at."""

from __future__ import annotations

from collections.abc import Callable

from edc_ray.config.cluster import RunSection
from edc_ray.config.dataset import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, DatasetSpec
from edc_ray.config.methods import edc
from edc_ray.config.run import RunConfig
from edc_ray.config.stages import (
    EvaluateConfig,
    InitConfig,
    RecoverConfig,
    RelabelConfig,
    SqueezeConfig,
    StatisticsConfig,
)


def digits() -> RunConfig:
    """8x8 grey digits that ship inside scikit-learn: the demo. Aims at no published row, only at minutes."""
    return edc(
        RunConfig(
            ipc=1,
            run=RunSection(name="digits"),
            dataset=DatasetSpec(
                name="digits", train="sklearn:digits", val_fraction=0.25, image_size=16, flip=False
            ),
            squeeze=SqueezeConfig(
                observers=("convnet_w32", "wrn_16_2"), epochs=8, batch_size=64, crop_padding=1
            ),
            statistics=StatisticsConfig(patch_side=4, batches_per_unit=6),
            init=InitConfig(images_per_class=60, crops_per_image=3, crop_scale=(0.5, 1.0), factor=1),
            recover=RecoverConfig(iterations=200, classes_per_unit=2, ipc_per_unit=5),
            relabel=RelabelConfig(epochs=200, mix_group=10, epochs_per_unit=50),
            evaluate=EvaluateConfig(students=("convnet_w32",), batch_size=10, learning_rate=0.005),
        )
    )


SMALL_OBSERVERS = (
    "resnet18_small", "convnet_w128", "mobilenet_v2_small", "wrn_16_2", "shufflenet_v2_x0_5_small",
    "convnet_d1", "convnet_d2", "convnet_w32",
)  # fmt: skip


def cifar10() -> RunConfig:
    """CIFAR-10, ResNet-18, ipc 10: 79.1 +- 0.3 in Table 1 of the paper."""
    return edc(
        RunConfig(
            ipc=10,
            run=RunSection(name="cifar10"),
            dataset=_cifar("cifar10", 10),
            squeeze=SqueezeConfig(observers=SMALL_OBSERVERS, epochs=10, crop_padding=4),
            statistics=StatisticsConfig(patch_side=4),
            init=InitConfig(kind="real"),
            recover=RecoverConfig(iterations=75, crop_scale=(0.5, 1.0), classes_per_unit=10, ipc_per_unit=10),
            relabel=RelabelConfig(epochs=1000, mix_group=25),
            evaluate=EvaluateConfig(students=("resnet18_small",), batch_size=25, schedule="multistep"),
        )
    )


def cifar100() -> RunConfig:
    """CIFAR-100, ResNet-18, ipc 10: 63.7 +- 0.3 in Table 1 of the paper."""
    return edc(
        RunConfig(
            ipc=10,
            run=RunSection(name="cifar100"),
            dataset=_cifar("cifar100", 100),
            squeeze=SqueezeConfig(observers=SMALL_OBSERVERS, epochs=50, schedule="constant"),
            statistics=StatisticsConfig(patch_side=4),
            init=InitConfig(kind="real"),
            recover=RecoverConfig(iterations=2000),
            relabel=RelabelConfig(epochs=1000, mix_group=50, observers=SMALL_OBSERVERS[:5]),
            evaluate=EvaluateConfig(
                students=("resnet18_small",), batch_size=50, optimizer="sgd", learning_rate=0.1,
                momentum=0.875, weight_decay=5e-4, schedule="cos2",
            ),
        )
    )  # fmt: skip


def tiny_imagenet() -> RunConfig:
    """Tiny-ImageNet, ResNet-18, ipc 10: 51.2 +- 0.5 in Table 1. Give dataset.train and dataset.val."""
    observers = (
        "resnet18_small",
        "convnet_w128",
        "mobilenet_v2_small",
        "wrn_16_2",
        "shufflenet_v2_x0_5_small",
    )
    return edc(
        RunConfig(
            ipc=10,
            run=RunSection(name="tiny_imagenet"),
            dataset=DatasetSpec(
                name="tiny_imagenet",
                num_classes=200,
                image_size=64,
                channels=3,
                mean=IMAGENET_MEAN,
                std=IMAGENET_STD,
            ),
            squeeze=SqueezeConfig(
                observers=observers, epochs=50, batch_size=128, learning_rate=0.1, crop_padding=8
            ),
            statistics=StatisticsConfig(patch_side=4),
            init=InitConfig(kind="real"),
            recover=RecoverConfig(iterations=2000),
            relabel=RelabelConfig(epochs=300, mix_group=100),
            evaluate=EvaluateConfig(
                students=("resnet18_small",),
                batch_size=100,
                optimizer="sgd",
                learning_rate=0.1,
                momentum=0.875,
                weight_decay=5e-4,
            ),
        )
    )  # fmt: skip


def _cifar(name: str, num_classes: int) -> DatasetSpec:
    source = f"torchvision:{name}"
    return DatasetSpec(
        name=name, train=source, val=source, num_classes=num_classes, image_size=32, channels=3,
        mean=CIFAR_MEAN, std=CIFAR_STD,
    )  # fmt: skip


RECIPES: dict[str, Callable[[], RunConfig]] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "tiny_imagenet": tiny_imagenet,
}
