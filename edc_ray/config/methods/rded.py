"""RDED, by the values of its authors' program."""

from __future__ import annotations

from typing import Any

from edc_ray.config.methods import edc
from edc_ray.config.methods.edc import WHOLE_PICTURES, batch_of
from edc_ray.config.methods.programs import DIGITS, DISTILLED, RESNET18, RESNET18_SMALL, RESNET18_WEIGHTS
from edc_ray.config.methods.values import MethodValues, Values, laid_over
from edc_ray.config.run import RunConfig

# Its program's rates where they are not 0.001.
_RATES = {
    "mobilenet_v2": 0.0025, "mobilenet_v2_small": 0.0025, "efficientnet_b0": 0.002, "vgg11": 0.0005,
    "alexnet": 0.0001,
    **dict.fromkeys(
        ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14", "swin_t", "swin_s", "swin_b",
         "swin_v2_t", "swin_v2_s", "swin_v2_b"),
        0.0001,
    ),
}  # fmt: skip
_EVERYWHERE: Values = {
    **DISTILLED,
    "evaluate.learning_rates": _RATES,
    "init.kind": "mosaic", "init.mosaic_order": "rded", "init.crop_resize": "nearest",
    "init.images_per_class": 300, "init.crops_per_image": 5, "init.crop_scale": (0.08, 1.0),
    "init.image_rounding": "trunc", "recover.enabled": False, "recover.image_format": "jpeg",
    "relabel.labels": "online", "evaluate.smoothing_factor": 2.0,
}  # fmt: skip


def rded_batch(num_classes: int, ipc: int) -> int:
    """The student's batch by the rule of its program: 10, 50 or 100 by ipc, doubled from 100 classes on."""
    size = 10 if ipc < 10 else 50 if ipc < 50 else 100
    return min(size * (2 if num_classes in (100, 1000) else 1), num_classes * ipc)


def _mosaics(num_classes: int, factor: int, ipc: int, *parts: Values) -> dict[str, Any]:
    """Mosaics of factor x factor cells, shuffled in training; views of 1/factor of the area and more."""
    joined = {name: value for part in parts for name, value in part.items()}
    size = 100 if num_classes == 200 else rded_batch(num_classes, ipc)
    return {
        **joined, "dataset.val_resize": "eight_sevenths", "init.factor": factor,
        "relabel.patch_shuffle": factor, "relabel.crop_scale": (1 / factor, 1.0), "relabel.epochs": 300,
        "relabel.rand_augment": False, **batch_of(size),
    }  # fmt: skip


VALUES = MethodValues(
    _EVERYWHERE,
    {
        "digits": {
            **DIGITS, "init.images_per_class": 60, "init.factor": 2, "relabel.patch_shuffle": 2,
            "relabel.crop_scale": (0.5, 1.0),
        },
        "cifar10": lambda ipc: _mosaics(10, 1, ipc, RESNET18_SMALL),
        "cifar100": lambda ipc: _mosaics(100, 1, ipc, RESNET18_SMALL),
        "tiny_imagenet": lambda ipc: _mosaics(200, 1, ipc, RESNET18_SMALL),
        "imagenet10": lambda ipc: _mosaics(10, 2, ipc, RESNET18, WHOLE_PICTURES),
        "imagenet1k": lambda ipc: _mosaics(1000, 2, ipc, RESNET18, RESNET18_WEIGHTS, WHOLE_PICTURES),
    },
)  # fmt: skip


def rded(config: RunConfig) -> RunConfig:
    """RDED (Sun et al., CVPR 2024): mosaics of well classified crops are the condensed images.

    Aims at ImageNet-1k 6.6 / 42.0 / 56.5 at ipc 1 / 10 / 50, CIFAR-10 22.9 / 37.1 / 62.1, CIFAR-100
    11.0 / 42.6 / 62.6, Tiny-ImageNet 9.7 / 41.9 / 58.2, ImageNet-10 24.9 / 53.3 / 75.5 (EDC's table 1).

    Deviations:
        to print an accuracy, its program runs the student a second time in each step and so updates the
        student's BatchNorm statistics twice; ours does not.
    """
    return laid_over(config, "rded", edc.VALUES, VALUES)


METHODS = (rded,)
CITATION = """@inproceedings{sun2024diversity,
  title = {On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation Paradigm},
  author = {Sun, Peng and Shi, Bei and Yu, Daiwei and Lin, Tao},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2024},
  note = {arXiv:2312.03526}
}"""
