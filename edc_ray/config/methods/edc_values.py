"""EDC's values, dataset by dataset: the paper's (`EDC`) and those of the shipped scripts (`OFFICIAL`).

The paper is Shao et al., NeurIPS 2024, arXiv:2404.13733, tables 6 to 10. Where it is silent, `EDC` has the
scripts' value.
"""

from __future__ import annotations

from typing import Any

from edc_ray.config.methods.values import MethodValues, Values

SMALL_OBSERVERS = (
    "resnet18_small", "convnet_w128", "mobilenet_v2_small", "wrn_16_2", "shufflenet_v2_x0_5_small",
    "convnet_d1", "convnet_d2", "convnet_w32",
)  # fmt: skip
FIVE_SMALL_OBSERVERS = SMALL_OBSERVERS[:5]
IMAGENET_OBSERVERS = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet")
FOUR_IMAGENET_OBSERVERS = IMAGENET_OBSERVERS[:4]
# The order of the official list of teachers, of which the script takes the first four: no efficientnet_b0.
IMAGENET_TEACHERS = ("resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "alexnet")
TORCHVISION = dict.fromkeys(IMAGENET_OBSERVERS, "torchvision")

_IPC_BLOCK = 10  # images of a class in a work unit of small classes; more ipc adds units


def units_of(batch: int, ipc: int) -> Values:
    """Work units of `batch` images, as near as whole classes come."""
    ipc_per_unit = min(ipc, _IPC_BLOCK)
    return {"recover.ipc_per_unit": ipc_per_unit, "recover.classes_per_unit": max(1, batch // ipc_per_unit)}


def batch_of(size: int) -> Values:
    """A student's batch, and as many images that share a mixing box."""
    return {"evaluate.batch_size": size, "relabel.mix_group": size}


# The programs for ImageNet crop pictures at their own size, and squash them where they do not crop.
WHOLE_PICTURES: Values = {"dataset.train_resize": "whole"}

# On every dataset. The docstring of `methods.edc` argues what differs from the scripts.
_EVERYWHERE: Values = {
    "squeeze.optimizer": "sgd", "squeeze.momentum": 0.9, "squeeze.weight_decay": 0.0,
    "init.replacement": False, "init.mosaic_order": "edc", "init.candidates": "best_crops",
    "recover.enabled": True, "recover.observers": None, "recover.layers": ("bn", "conv"),
    "recover.category_aware": "global", "recover.global_weight": 0.5, "recover.class_weight": 0.5,
    "recover.statistic_momentum": 0.8, "recover.estimate_start": "first", "recover.variance": "pooled",
    "recover.learning_rate": 0.05, "recover.matching_weight": 0.01, "recover.drop_rate": 0.0,
    "recover.first_multiplier": 10.0, "recover.flatness_weight": 0.0, "recover.crop_scale": (0.5, 1.0),
    "recover.order": "blocks", "recover.carry": "reset", "recover.verifier_touches_estimate": False,
    "recover.image_rounding": "round", "recover.image_format": "png",
    "relabel.observers": None, "relabel.crop_scale": (0.5, 1.0), "relabel.mix": "cutmix",
    "relabel.mix_alpha": 1.0, "relabel.label_norm": "none", "relabel.patch_shuffle": 1,
    "evaluate.labels": "stored", "evaluate.loss": "mse_ce", "evaluate.ce_weight": 0.025,
    "evaluate.optimizer": "adamw", "evaluate.weight_decay": 0.01, "evaluate.schedule": "cos",
    "evaluate.smoothing_factor": 2.0, "evaluate.ema_decay": 0.99, "evaluate.accumulation": 1,
}  # fmt: skip


def _digits(ipc: int) -> Values:
    return {
        "squeeze.observers": ("convnet_w32", "wrn_16_2"), "squeeze.epochs": 8, "squeeze.batch_size": 64,
        "squeeze.learning_rate": 0.05, "squeeze.crop_padding": 1,
        "statistics.patch_side": 4,
        "init.kind": "mosaic", "init.images_per_class": 60, "init.crops_per_image": 3,
        "init.crop_scale": (0.5, 1.0), "init.factor": 1,
        "recover.iterations": 200, "recover.classes_per_unit": 2, "recover.ipc_per_unit": 5,
        "relabel.epochs": 200, **batch_of(10), "evaluate.learning_rate": 0.005,
    }  # fmt: skip


def _cifar10(ipc: int) -> Values:
    return {
        "squeeze.observers": SMALL_OBSERVERS, "squeeze.epochs": 10, "squeeze.learning_rate": 0.05,
        "statistics.patch_side": 4, "init.kind": "real",
        # The paper's batch is all images.
        "recover.iterations": 75, "recover.classes_per_unit": 10, "recover.ipc_per_unit": 50,
        "relabel.epochs": 1000, "relabel.rand_augment": True, **batch_of(25),
        "evaluate.learning_rate": 0.001, "evaluate.schedule": "multistep",
    }  # fmt: skip


def _cifar100(ipc: int) -> Values:
    return {
        "squeeze.observers": SMALL_OBSERVERS, "squeeze.epochs": 50, "squeeze.learning_rate": 0.05,
        "squeeze.schedule": "constant", "statistics.patch_side": 4, "init.kind": "real",
        "recover.iterations": 2000, **units_of(100, ipc),
        # The paper does not say who labels; the scripts take five of the eight.
        "relabel.observers": FIVE_SMALL_OBSERVERS,
        "relabel.epochs": 1000, "relabel.rand_augment": True, **batch_of(50),
        "evaluate.learning_rate": 0.001,
    }  # fmt: skip


def _tiny_imagenet(ipc: int) -> Values:
    return {
        # The paper's EfficientNet-V2 has no small variant in the official code; these five are its script's.
        "squeeze.observers": FIVE_SMALL_OBSERVERS, "squeeze.epochs": 50, "squeeze.batch_size": 128,
        "squeeze.learning_rate": 0.1, "squeeze.crop_padding": 8,
        "statistics.patch_side": 4, "init.kind": "real", "recover.iterations": 2000, **units_of(100, ipc),
        "relabel.epochs": 1000 if ipc == 1 else 300, "relabel.rand_augment": True, **batch_of(100),
        "evaluate.learning_rate": 0.001,
    }  # fmt: skip


_LARGE: dict[str, Any] = {
    "statistics.patch_side": 16, "statistics.batch_size": 256, "squeeze.augmentation": "resized_crop",
    "init.kind": "mosaic", "init.factor": 2, "init.images_per_class": 300, "init.crops_per_image": 4,
    "init.crop_scale": (0.08, 1.0), "init.observers": FOUR_IMAGENET_OBSERVERS, "init.ipc_per_unit": 50,
    "evaluate.learning_rate": 0.001,
    # Validated as everywhere: the shorter side to 256, then the middle.
    "dataset.val_resize": "centre_crop",
}  # fmt: skip


def _imagenet10(ipc: int) -> Values:
    return {
        **_LARGE,
        # From scratch, as the paper's table 8 has it: weaker teachers label better.
        "squeeze.observers": FOUR_IMAGENET_OBSERVERS, "squeeze.epochs": 20, "squeeze.batch_size": 128,
        "squeeze.learning_rate": 0.05,
        "recover.iterations": 2000, **units_of(100, ipc),
        "relabel.epochs": 1000, "relabel.rand_augment": True, **batch_of(50),
    }  # fmt: skip


def _imagenet1k(ipc: int) -> Values:
    return {
        **_LARGE,
        "squeeze.observers": IMAGENET_OBSERVERS, "squeeze.weights": TORCHVISION, "squeeze.epochs": 0,
        "init.classes_per_unit": 1,
        # The paper has 2000 iterations, the script 1000; the weight .1 is the script's, the paper has none.
        "recover.iterations": 2000, "recover.matching_weight": 0.1, **units_of(80, ipc),
        "relabel.observers": IMAGENET_TEACHERS, "relabel.epochs": 300, **batch_of(100),
        "evaluate.learning_rates": {"swin_t": 1e-4},
    }  # fmt: skip


EDC = MethodValues(
    _EVERYWHERE,
    {
        "digits": _digits,
        "cifar10": _cifar10,
        "cifar100": _cifar100,
        "tiny_imagenet": _tiny_imagenet,
        "imagenet10": _imagenet10,
        "imagenet1k": _imagenet1k,
    },
)

# What the scripts have otherwise than `EDC`.
_OFFICIAL_EVERYWHERE: Values = {
    "recover.class_patch_swapped": True,
    "init.replacement": True, "init.mirror": True,
    "recover.estimate_start": "zero", "recover.variance": "official", "recover.order": "official",
    "recover.carry": "chain", "recover.image_rounding": "trunc", "recover.verifier_touches_estimate": True,
    "evaluate.order": "groups",
}  # fmt: skip

_SGD: Values = {
    "evaluate.optimizer": "sgd", "evaluate.learning_rate": 0.1, "evaluate.momentum": 0.875,
    "evaluate.weight_decay": 5e-4,
}  # fmt: skip
_ONLINE: Values = {"evaluate.labels": "online", "relabel.rand_augment": True}
_OFFICIAL_MOSAICS: Values = {
    "init.candidates": "shared_crops", "init.crop_group": 64, "init.drop_last_group": True,
    "init.image_rounding": "trunc", "init.image_format": "jpeg", "recover.image_format": "jpeg",
    "statistics.augmentation": "resized_crop", **WHOLE_PICTURES,
}  # fmt: skip


def local_images(real_images: int, ipc: int) -> Values:
    """Real images for one slot in local mode, where the program still runs: at least one."""
    return {"recover.local_images_per_slot": max(1, real_images // ipc)}


def _official_cifar10(ipc: int) -> Values:
    return {
        # Five epochs, but only the weights after the first are ever saved.
        "squeeze.epochs": 5, "squeeze.save": "mod10", "squeeze.schedule": "constant",
        "statistics.augmentation": "crop_pad",
        "recover.crop_scale": (0.08, 1.0), "recover.batch_size": 10, "recover.virtual_ranks": 1,
        "recover.image_format": "jpeg", **local_images(5000, ipc),
        "relabel.crop_scale": (0.08, 1.0), **_ONLINE, **batch_of(10),
    }  # fmt: skip


def _official_cifar100(ipc: int) -> Values:
    return {
        "squeeze.save": "mod10", "statistics.augmentation": "crop_pad",
        "recover.batch_size": 100, "recover.virtual_ranks": 4, **local_images(1000, ipc),
        **_ONLINE, **_SGD, "evaluate.schedule": "cos2_official",
    }  # fmt: skip


def _official_tiny_imagenet(ipc: int) -> Values:
    return {
        "squeeze.save": "mod10", "statistics.augmentation": "crop_pad", "statistics.crop_padding": 8,
        "recover.batch_size": 100, "recover.virtual_ranks": 4, **local_images(500, ipc),
        "relabel.epochs": 300, **_ONLINE, **_SGD,
    }  # fmt: skip


def _official_imagenet10(ipc: int) -> Values:
    return {
        **_OFFICIAL_MOSAICS,
        "squeeze.weights": {name: TORCHVISION[name] for name in FOUR_IMAGENET_OBSERVERS},
        "squeeze.learning_rate": 0.01, "squeeze.smoothing_factor": 3.0,
        "init.prefer_unused": True,
        "recover.observers": ("resnet18", "mobilenet_v2", "shufflenet_v2_x0_5"), "recover.iterations": 50,
        "recover.statistic_momentum": 0.0, "recover.batch_size": 100, "recover.virtual_ranks": 1,
        "recover.verify_every": 20, "recover.verify_final": False, **local_images(100, ipc),
        **_ONLINE, "evaluate.schedule": "cos2_official",
    }  # fmt: skip


def _official_imagenet1k(ipc: int) -> Values:
    return {
        **_OFFICIAL_MOSAICS,
        "recover.iterations": 1000, "recover.batch_size": 80, "recover.virtual_ranks": 4,
        "recover.verify_every": 20,
        # Its verifier is a network of its own.
        "recover.verifier_touches_estimate": False, **local_images(50, ipc),
        "relabel.order_seed": 42,
        # What it calls cos is linear.
        "evaluate.schedule": "linear", "evaluate.drop_remainder": True,
    }  # fmt: skip


# Its local mode leaves the whole set out; the other programs weigh both alike.
OFFICIAL_IMAGENET1K_LOCAL: Values = {"recover.global_weight": 0.0, "recover.class_weight": 1.0}

OFFICIAL = MethodValues(
    _OFFICIAL_EVERYWHERE,
    {
        "cifar10": _official_cifar10,
        "cifar100": _official_cifar100,
        "tiny_imagenet": _official_tiny_imagenet,
        "imagenet10": _official_imagenet10,
        "imagenet1k": _official_imagenet1k,
    },
)
