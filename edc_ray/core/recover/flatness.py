"""Flatness regularisation: the logits of the images should stay near those of their running average."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def flatness_loss(logits_BK: Tensor, average_logits_BK: Tensor, temperature: float) -> Tensor:
    """KL(softmax(average / t) || softmax(logits / t)), summed and divided by B * K; t is the temperature.

    The average's logits get no gradient.

    Source:
        EDC, Shao et al., NeurIPS 2024, arXiv:2404.13733, flatness regularisation on logits.
    Deviations:
        the paper averages over images; the official code, and we, also over classes, without t^2. In the
        official code the term is a constant 0 for the ImageNet sets.
    """
    log_probabilities = F.log_softmax(logits_BK / temperature, dim=1)
    expected = F.softmax(average_logits_BK.detach() / temperature, dim=1)
    return F.kl_div(log_probabilities, expected, reduction="sum") / logits_BK.numel()


def update_average(average: Tensor, images: Tensor, momentum: float) -> Tensor:
    """The images' running average after one more iteration; `momentum` is the weight of history."""
    return momentum * average + (1 - momentum) * images
