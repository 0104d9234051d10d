"""Accuracy and calibration of logits. B images, K classes."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor


def topk_correct(logits_BK: Tensor, labels_B: Tensor, k: int = 1) -> Tensor:
    """Which images have their label among the k >= 1 largest logits: bool [B].

    Equal logits rank by class number. A row with a NaN is wrong. A k of more than K counts as K.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    own_B1 = logits_BK.gather(1, labels_B[:, None])
    classes_K = torch.arange(logits_BK.shape[1], device=logits_BK.device)
    ahead_BK = (logits_BK > own_B1) | ((logits_BK == own_B1) & (classes_K < labels_B[:, None]))
    return (ahead_BK.sum(1) < k) & ~logits_BK.isnan().any(1)


def per_class_accuracy(correct_B: Tensor, labels_B: Tensor, num_classes: int) -> Tensor:
    """Share of correct images of each class, float64 [K]; NaN for a class without images."""
    total_K = torch.bincount(labels_B, minlength=num_classes)
    right_K = torch.bincount(labels_B[correct_B], minlength=num_classes)
    return right_K.double() / total_K.double()


def expected_calibration_error(logits_BK: Tensor, labels_B: Tensor, num_bins: int = 15) -> float:
    """Mean of |confidence - accuracy| over equally wide bins of confidence, weighted by their images.

    The bins are (0, 1/n], (1/n, 2/n], ... The result is in [0, 1], or NaN if a logit is NaN. No images: a
    ValueError.

    Source:
        Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    if len(labels_B) == 0:
        raise ValueError("calibration of no images")
    if logits_BK.isnan().any():
        return float("nan")
    confidence_B = logits_BK.double().softmax(1).amax(1)
    bin_B = (confidence_B * num_bins).ceil().long().clamp(1, num_bins) - 1
    gap_B = confidence_B - topk_correct(logits_BK, labels_B).double()
    gap_N = torch.zeros(num_bins, dtype=torch.float64, device=gap_B.device).index_add(0, bin_B, gap_B)
    return float(gap_N.abs().sum() / len(labels_B))


def bar_above_chance(num_classes: int, num_images: int) -> float:
    """The accuracy that guessing stays below: 1/K plus three standard deviations of a binomial share.

    1 or more where so few images prove nothing.
    """
    chance = 1 / num_classes
    return chance + 3 * math.sqrt(chance * (1 - chance) / num_images)


def fewest_images_above_chance(num_classes: int) -> int:
    """The smallest number of images whose accuracy can exceed `bar_above_chance`: 10 for 2 classes."""
    return next(images for images in itertools.count(1) if bar_above_chance(num_classes, images) < 1)
