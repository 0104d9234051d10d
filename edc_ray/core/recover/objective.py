"""What an image is optimised for: a weighted sum of named terms.

Every term is a scalar under a name of `TermName`; a method that asks for another term adds a name,
computes its scalar in the loop, and sets its weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

TermName = Literal["cross_entropy", "matching", "flatness", "tv_l1", "tv_l2", "l2", "diversity"]

# The terms that look at the pixels and at no network.
PIXEL_TERMS: tuple[TermName, ...] = ("tv_l1", "tv_l2", "l2", "diversity")


def weighted_objective(terms: Mapping[TermName, Tensor], weights: Mapping[TermName, float]) -> Tensor:
    """The sum of weight * term over the terms given.

    Args:
        terms: scalars, not yet weighted.
        weights: at least the names of `terms`; a term of weight 1 is added as it is.

    Returns:
        Scalar, differentiable in every term.
    """
    parts = [term if weights[name] == 1 else term * weights[name] for name, term in terms.items()]
    return torch.stack(parts).sum() if len(parts) > 1 else parts[0]
