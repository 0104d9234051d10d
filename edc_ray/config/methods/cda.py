"""CDA, by what it changes of SRe2L."""

from __future__ import annotations

from edc_ray.config.methods import edc, sre2l
from edc_ray.config.methods.values import MethodValues, Values, laid_over
from edc_ray.config.run import RunConfig

_CURRICULUM: Values = {"recover.crop_curriculum": "cosine", "recover.crop_milestone": 1.0}
# SRe2L's CIFAR-100 with the curriculum's crops; no published program.
_CIFAR: Values = {**_CURRICULUM, "recover.crop_scale": (0.08, 1.0), "recover.mirror": True}

VALUES = MethodValues(
    _CURRICULUM,
    {
        "cifar10": _CIFAR,
        "cifar100": _CIFAR,
        "tiny_imagenet": {"recover.learning_rate": 0.4, "recover.matching_weight": 0.05},
    },
)


def cda(config: RunConfig) -> RunConfig:
    """CDA (Yin and Shen, 2023, arXiv:2311.18838): SRe2L with crops that shrink from the whole image.

    Aims at Tiny-ImageNet 48.7 and ImageNet-1k 53.5 at ipc 50 (EDC's table 25).

    Deviations:
        it has no program for the CIFAR sets and ImageNet-10: the values there are SRe2L's.
    """
    return laid_over(config, "cda", edc.VALUES, sre2l.VALUES, VALUES)


METHODS = (cda,)
CITATION = """@article{yin2023dataset,
  title = {Dataset Distillation in Large Data Era},
  author = {Yin, Zeyuan and Shen, Zhiqiang},
  journal = {arXiv preprint arXiv:2311.18838},
  year = {2023}
}"""
