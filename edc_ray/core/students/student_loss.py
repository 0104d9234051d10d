"""Losses of a student on soft labels. B images, K classes.

All take (student logits, teacher logits, labels, options), and each uses the options that it needs. A config
names a loss by its key in `STUDENT_LOSSES`. Labels are those of the base images, also where views are mixed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

_CORRELATION_EPSILON = 1e-5
_FLATNESS_WEIGHT = 0.4


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """What some losses need besides logits and labels."""

    temperature: float
    ce_weight: float
    ema_logits: Tensor | None = None  # [B, K], of the student with averaged parameters on the same views


# Scalar, differentiable in the student's logits.
StudentLoss = Callable[[Tensor, Tensor, Tensor, LossOptions], Tensor]


def cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, options: LossOptions
) -> Tensor:
    """Cross entropy with the hard labels: for the control rows."""
    return F.cross_entropy(student_logits, labels)


def kl(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """KL(teacher || student) at a temperature, mean over images.

    Deviations:
        As the official code, not multiplied by the squared temperature.
    """
    return _kl_divergence(student_logits / options.temperature, teacher_logits / options.temperature)


def dist(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """1 - correlation of the probabilities, within images and within classes, times 2 T^2.

    Source:
        DIST, Huang et al., NeurIPS 2022.
    """
    student_BK = (student_logits / options.temperature).softmax(1)
    teacher_BK = (teacher_logits / options.temperature).softmax(1)
    within_images = 1 - _row_correlation(student_BK, teacher_BK).mean()
    within_classes = 1 - _row_correlation(student_BK.T, teacher_BK.T).mean()
    return 2 * options.temperature**2 * (within_images + within_classes)


def mse_ce(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """Mean squared difference of logits plus weighted cross entropy (official name: mse_gt).

    Source:
        G-VBSM, Shao et al., CVPR 2024.
    Deviations:
        none: as in the official code, the label of a mixed view is that of its base image, however little
        is left of it; the teacher's logits hold the mixture.
    """
    hard = options.ce_weight * F.cross_entropy(student_logits, labels)
    return F.mse_loss(student_logits, teacher_logits) + hard


def mse_ce_flat(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, options: LossOptions
) -> Tensor:
    """`mse_ce` plus 0.4 KL(averaged student || student) at temperature 1 (official name: mse_gt_sam).

    It needs ema_logits, else a ValueError. They get no gradient.
    """
    if options.ema_logits is None:
        raise ValueError("mse_ce_flat needs ema_logits")
    loss = mse_ce(student_logits, teacher_logits, labels, options)
    return loss + _FLATNESS_WEIGHT * _kl_divergence(student_logits, options.ema_logits.detach())


STUDENT_LOSSES: dict[str, StudentLoss] = {
    "ce": cross_entropy,
    "kl": kl,
    "dist": dist,
    "mse_ce": mse_ce,
    "mse_ce_flat": mse_ce_flat,
}

NEEDS_EMA_LOGITS = frozenset({"mse_ce_flat"})


def _kl_divergence(logits_BK: Tensor, target_logits_BK: Tensor) -> Tensor:
    return F.kl_div(logits_BK.log_softmax(1), target_logits_BK.softmax(1), reduction="batchmean")


def _row_correlation(a_RN: Tensor, b_RN: Tensor) -> Tensor:
    a_RN, b_RN = a_RN - a_RN.mean(1, keepdim=True), b_RN - b_RN.mean(1, keepdim=True)
    return (a_RN * b_RN).sum(1) / (a_RN.norm(dim=1) * b_RN.norm(dim=1) + _CORRELATION_EPSILON)
