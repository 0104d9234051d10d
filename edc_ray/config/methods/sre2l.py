"""SRe2L, by the values of its authors' program."""

from __future__ import annotations

from edc_ray.config.methods import edc, programs
from edc_ray.config.methods.values import MethodValues, Values, laid_over
from edc_ray.config.run import RunConfig

_LARGE_BATCH: Values = {"relabel.mix_group": 1024, "evaluate.batch_size": 512, "evaluate.accumulation": 2}

_EVERYWHERE: Values = {
    **programs.GLOBAL_ONLY, **programs.DISTILLED, **programs.STEEP,
    "init.kind": "noise", "recover.layers": ("bn",), "recover.statistic_momentum": 0.0,
    "recover.learning_rate": 0.25, "recover.crop_scale": (0.08, 1.0), "recover.jitter": 32,
    "recover.order": "ipc_major", "recover.batch_size": 100, "recover.image_format": "jpeg",
    "relabel.crop_scale": (0.08, 1.0),
}  # fmt: skip

# Its program for CIFAR-100; there is none for CIFAR-10. The images are rolled, not cropped.
# Its student sees padded crops; our nearest view is a crop of half the area and more.
_CIFAR: Values = {
    **programs.RESNET18_SMALL, "squeeze.epochs": 200, "squeeze.learning_rate": 0.1,
    "squeeze.weight_decay": 5e-4, "squeeze.schedule": "cos",
    "recover.iterations": 1000, "recover.crop_scale": (1.0, 1.0), "recover.mirror": False,
    "recover.jitter": 4,
    "relabel.epochs": 400, "relabel.crop_scale": (0.5, 1.0), "relabel.mix": "mixup",
    "relabel.mix_alpha": 0.8, **edc.batch_of(128),
    "relabel.labels": "online", "evaluate.temperature": 30.0,
}  # fmt: skip
# Its program's recovery, and the student's side of ImageNet-1k with batches of 256.
_TINY: Values = {
    **programs.RESNET18_SMALL, "recover.learning_rate": 0.1, "recover.matching_weight": 1.0,
    "recover.iterations": 4000, "recover.jitter": 4, "relabel.epochs": 300, **edc.batch_of(256),
}  # fmt: skip


def _imagenet10(ipc: int) -> Values:
    """ImageNet-1k's values on an observer of these ten classes; no published program."""
    return {
        **programs.RESNET18, **edc.WHOLE_PICTURES, "relabel.rand_augment": False, "recover.iterations": 4000,
        "relabel.epochs": 300,
        **edc.batch_of(min(256, 10 * ipc)),
    }  # fmt: skip


_IMAGENET1K: Values = {
    **programs.RESNET18, **programs.RESNET18_WEIGHTS, **edc.WHOLE_PICTURES, "recover.iterations": 4000,
    "relabel.epochs": 300, **_LARGE_BATCH,
}  # fmt: skip

VALUES = MethodValues(
    _EVERYWHERE,
    {
        "digits": {**programs.DIGITS, "recover.jitter": 2},
        "cifar10": _CIFAR,
        "cifar100": _CIFAR,
        "tiny_imagenet": _TINY,
        "imagenet10": _imagenet10,
        "imagenet1k": _IMAGENET1K,
    },
)


def sre2l(config: RunConfig) -> RunConfig:
    """SRe2L (Yin et al., NeurIPS 2023): noise, BatchNorm statistics of one ResNet-18, its labels.

    Aims at ImageNet-1k 21.3 / 46.8 at ipc 10 / 50, CIFAR-100 31.6 / 49.5, Tiny-ImageNet 41.1 at ipc 50, and
    CIFAR-10 27.2 / 47.5 (EDC's table 1).

    Deviations:
        values are its programs' where they ship one (ImageNet-1k, CIFAR-100, recovery on Tiny-ImageNet).
    """
    return laid_over(config, "sre2l", edc.VALUES, VALUES)


METHODS = (sre2l,)
CITATION = """@inproceedings{yin2023squeeze,
  title = {Squeeze, Recover and Relabel: Dataset Condensation at {ImageNet} Scale From A New Perspective},
  author = {Yin, Zeyuan and Xing, Eric and Shen, Zhiqiang},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023},
  note = {arXiv:2306.13092}
}"""
