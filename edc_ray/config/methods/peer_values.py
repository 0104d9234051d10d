"""The values of the methods EDC is compared with, as their authors' programs have them.

A dataset that a program does not know gets the values of the most similar one; each such row says so.
"""

from __future__ import annotations

from typing import Any

from edc_ray.config.methods.edc_values import (
    FIVE_SMALL_OBSERVERS,
    FOUR_IMAGENET_OBSERVERS,
    TORCHVISION,
    WHOLE_PICTURES,
    batch_of,
    units_of,
)
from edc_ray.config.methods.values import MethodValues, Values

# Statistics of the whole set only, each term with weight 1, and nothing of the categories.
_GLOBAL_ONLY: Values = {
    "recover.category_aware": "none", "recover.global_weight": 1.0, "recover.class_weight": 0.0,
    "recover.estimate_start": "zero", "recover.variance": "official", "recover.matching_weight": 0.01,
    "recover.image_rounding": "trunc",
}  # fmt: skip
# In all of their programs a student's batch is a mixing group; rates are the same for all students.
_STUDENTS: Values = {"evaluate.order": "groups", "evaluate.learning_rates": {}}
# Knowledge distillation on the soft labels alone, of one network.
_DISTILLED: Values = {
    **_STUDENTS,
    "evaluate.loss": "kl", "evaluate.temperature": 20.0, "evaluate.optimizer": "adamw",
    "evaluate.learning_rate": 0.001, "evaluate.weight_decay": 0.01, "evaluate.schedule": "cos",
    "evaluate.ema_decay": 0.0,
}  # fmt: skip
_STEEP: Values = {"evaluate.smoothing_factor": 1.0}
_LARGE_BATCH: Values = {"relabel.mix_group": 1024, "evaluate.batch_size": 512, "evaluate.accumulation": 2}

_RESNET18: Values = {"squeeze.observers": ("resnet18",), "init.observers": None, "relabel.observers": None}
_RESNET18_WEIGHTS: Values = {"squeeze.weights": {"resnet18": TORCHVISION["resnet18"]}}
_RESNET18_SMALL: Values = {
    "squeeze.observers": ("resnet18_small",), "relabel.observers": None, "relabel.rand_augment": False,
}  # fmt: skip
# One small network with BatchNorm.
_DIGITS: Values = {"squeeze.observers": ("wrn_16_2",), "evaluate.learning_rate": 0.005}


_SRE2L_EVERYWHERE: Values = {
    **_GLOBAL_ONLY, **_DISTILLED, **_STEEP,
    "init.kind": "noise", "recover.layers": ("bn",), "recover.statistic_momentum": 0.0,
    "recover.learning_rate": 0.25, "recover.crop_scale": (0.08, 1.0), "recover.jitter": 32,
    "recover.order": "ipc_major", "recover.batch_size": 100, "recover.image_format": "jpeg",
    "relabel.crop_scale": (0.08, 1.0),
}  # fmt: skip


def _sre2l_digits(_: int) -> Values:
    return {**_DIGITS, "recover.jitter": 2}


def _sre2l_cifar(_: int) -> Values:
    """Its program for CIFAR-100; there is none for CIFAR-10. No crops: the images are rolled only.

    Its student's view is a padded crop; the nearest that ours can be is a crop of half the area and more.
    """
    return {
        **_RESNET18_SMALL, "squeeze.epochs": 200, "squeeze.learning_rate": 0.1,
        "squeeze.weight_decay": 5e-4, "squeeze.schedule": "cos",
        "recover.iterations": 1000, "recover.crop_scale": (1.0, 1.0), "recover.mirror": False,
        "recover.jitter": 4,
        "relabel.epochs": 400, "relabel.crop_scale": (0.5, 1.0), "relabel.mix": "mixup",
        "relabel.mix_alpha": 0.8, **batch_of(128),
        "evaluate.labels": "online", "evaluate.temperature": 30.0,
    }  # fmt: skip


def _sre2l_tiny(_: int) -> Values:
    """Recovery is its program's; the student's side is that of ImageNet-1k with batches of 256."""
    return {
        **_RESNET18_SMALL, "recover.learning_rate": 0.1, "recover.matching_weight": 1.0,
        "recover.iterations": 4000, "recover.jitter": 4, "relabel.epochs": 300, **batch_of(256),
    }  # fmt: skip


def _sre2l_imagenet10(ipc: int) -> Values:
    """ImageNet-1k's values on an observer of these ten classes; no published program."""
    return {
        **_RESNET18, **WHOLE_PICTURES, "relabel.rand_augment": False, "recover.iterations": 4000,
        "relabel.epochs": 300,
        **batch_of(min(256, 10 * ipc)),
    }  # fmt: skip


def _sre2l_imagenet1k(_: int) -> Values:
    return {
        **_RESNET18, **_RESNET18_WEIGHTS, **WHOLE_PICTURES, "recover.iterations": 4000,
        "relabel.epochs": 300, **_LARGE_BATCH,
    }  # fmt: skip


SRE2L = MethodValues(
    _SRE2L_EVERYWHERE,
    {
        "digits": _sre2l_digits,
        "cifar10": _sre2l_cifar,
        "cifar100": _sre2l_cifar,
        "tiny_imagenet": _sre2l_tiny,
        "imagenet10": _sre2l_imagenet10,
        "imagenet1k": _sre2l_imagenet1k,
    },
)

_CURRICULUM: Values = {"recover.crop_curriculum": "cosine", "recover.crop_milestone": 1.0}


def _cda_cifar(ipc: int) -> Values:
    """SRe2L's CIFAR-100 with the crops that the curriculum is about; no published program."""
    return {**_CURRICULUM, "recover.crop_scale": (0.08, 1.0), "recover.mirror": True}


# What CDA has otherwise than SRe2L.
CDA = MethodValues(
    _CURRICULUM,
    {
        "cifar10": _cda_cifar,
        "cifar100": _cda_cifar,
        "tiny_imagenet": lambda ipc: {"recover.learning_rate": 0.4, "recover.matching_weight": 0.05},
    },
)

_GVBSM_EVERYWHERE: Values = {
    **_GLOBAL_ONLY, **_STUDENTS, **_STEEP,
    "init.kind": "noise", "recover.statistic_momentum": 0.4, "recover.learning_rate": 0.1,
    "recover.crop_scale": (0.08, 1.0), "recover.jitter": 32, "recover.diversity_weight": 1.0,
    "recover.diversity_temperature": 4.0,
    "relabel.crop_scale": (0.08, 1.0), "relabel.label_norm": "frobenius",
    "evaluate.ce_weight": 0.1, "evaluate.schedule": "cos", "evaluate.ema_decay": 0.0,
}  # fmt: skip
_GVBSM_SMALL: Values = {
    "squeeze.observers": FIVE_SMALL_OBSERVERS, "relabel.observers": None, "relabel.rand_augment": False,
    "statistics.augmentation": "crop_pad", "recover.learning_rate": 0.05, "recover.iterations": 4000,
    "recover.statistic_momentum": 0.8, "recover.drop_rate": 0.4,
}  # fmt: skip
# Its views are padded crops, which the jitter of up to 32 pixels includes.
_GVBSM_CIFAR: Values = {
    **_GVBSM_SMALL, "recover.crop_scale": (1.0, 1.0), "relabel.epochs": 1000, "relabel.label_norm": "none",
    "evaluate.ce_weight": 0.15,
}  # fmt: skip
_GVBSM_SGD: Values = {
    "evaluate.optimizer": "sgd", "evaluate.learning_rate": 0.1, "evaluate.momentum": 0.9,
}  # fmt: skip


def _gvbsm_cifar10(ipc: int) -> Values:
    return {**_GVBSM_CIFAR, **units_of(100, ipc), **batch_of(100)}


def _gvbsm_cifar100(ipc: int) -> Values:
    return {
        **_GVBSM_CIFAR, **_GVBSM_SGD, **units_of(100, ipc), **batch_of(64), "evaluate.weight_decay": 5e-4,
    }  # fmt: skip


def _gvbsm_tiny(ipc: int) -> Values:
    return {
        **_GVBSM_SMALL, **_GVBSM_SGD, **units_of(100, ipc), "statistics.crop_padding": 8,
        "relabel.epochs": 100,
        "evaluate.weight_decay": 5e-4,
        # Batches of 100 in two halves.
        "relabel.mix_group": 100, "evaluate.batch_size": 50, "evaluate.accumulation": 2,
    }  # fmt: skip


def _gvbsm_imagenet10(ipc: int) -> Values:
    """ImageNet-1k's values on observers of these ten classes; no published program."""
    return {
        **WHOLE_PICTURES, "statistics.augmentation": "resized_crop", "recover.iterations": 4000,
        **units_of(80, ipc),
        "relabel.epochs": 300, "relabel.rand_augment": False, **batch_of(min(256, 10 * ipc)),
    }  # fmt: skip


def _gvbsm_imagenet1k(ipc: int) -> Values:
    weights = {name: TORCHVISION[name] for name in FOUR_IMAGENET_OBSERVERS}
    return {
        "squeeze.observers": FOUR_IMAGENET_OBSERVERS, "squeeze.weights": weights, "relabel.observers": None,
        **WHOLE_PICTURES, "statistics.augmentation": "resized_crop", "recover.iterations": 4000,
        **units_of(80, ipc), "relabel.epochs": 300, **batch_of(1024),
    }  # fmt: skip


GVBSM = MethodValues(
    _GVBSM_EVERYWHERE,
    {
        "digits": lambda ipc: {"recover.jitter": 2},
        "cifar10": _gvbsm_cifar10,
        "cifar100": _gvbsm_cifar100,
        "tiny_imagenet": _gvbsm_tiny,
        "imagenet10": _gvbsm_imagenet10,
        "imagenet1k": _gvbsm_imagenet1k,
    },
)

# Its program's rates where they are not 0.001.
_RDED_RATES = {
    "mobilenet_v2": 0.0025, "mobilenet_v2_small": 0.0025, "efficientnet_b0": 0.002, "vgg11": 0.0005,
    "alexnet": 0.0001,
    **dict.fromkeys(
        ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14", "swin_t", "swin_s", "swin_b",
         "swin_v2_t", "swin_v2_s", "swin_v2_b"),
        0.0001,
    ),
}  # fmt: skip
_RDED_EVERYWHERE: Values = {
    **_DISTILLED,
    "evaluate.learning_rates": _RDED_RATES,
    "init.kind": "mosaic", "init.mosaic_order": "rded", "init.crop_resize": "nearest",
    "init.images_per_class": 300, "init.crops_per_image": 5, "init.crop_scale": (0.08, 1.0),
    "init.image_rounding": "trunc", "recover.enabled": False, "recover.image_format": "jpeg",
    "evaluate.labels": "online", "evaluate.smoothing_factor": 2.0,
}  # fmt: skip


def rded_batch(num_classes: int, ipc: int) -> int:
    """The student's batch by the rule of its program: 10, 50 or 100 by ipc, doubled from 100 classes on."""
    size = 10 if ipc < 10 else 50 if ipc < 50 else 100
    return min(size * (2 if num_classes in (100, 1000) else 1), num_classes * ipc)


def _rded(num_classes: int, factor: int, ipc: int, *parts: Values) -> dict[str, Any]:
    """Mosaics of factor x factor cells, shuffled in training; views of 1/factor of the area and more."""
    joined = {name: value for part in parts for name, value in part.items()}
    size = 100 if num_classes == 200 else rded_batch(num_classes, ipc)
    return {
        **joined, "dataset.val_resize": "eight_sevenths", "init.factor": factor,
        "relabel.patch_shuffle": factor, "relabel.crop_scale": (1 / factor, 1.0), "relabel.epochs": 300,
        "relabel.rand_augment": False, **batch_of(size),
    }  # fmt: skip


RDED = MethodValues(
    _RDED_EVERYWHERE,
    {
        "digits": lambda ipc: {
            **_DIGITS, "init.images_per_class": 60, "init.factor": 2, "relabel.patch_shuffle": 2,
            "relabel.crop_scale": (0.5, 1.0),
        },
        "cifar10": lambda ipc: _rded(10, 1, ipc, _RESNET18_SMALL),
        "cifar100": lambda ipc: _rded(100, 1, ipc, _RESNET18_SMALL),
        "tiny_imagenet": lambda ipc: _rded(200, 1, ipc, _RESNET18_SMALL),
        "imagenet10": lambda ipc: _rded(10, 2, ipc, _RESNET18, WHOLE_PICTURES),
        "imagenet1k": lambda ipc: _rded(1000, 2, ipc, _RESNET18, _RESNET18_WEIGHTS, WHOLE_PICTURES),
    },
)  # fmt: skip
