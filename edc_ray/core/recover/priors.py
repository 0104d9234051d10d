"""Terms that depend only on the pixels of the condensed images, not on a network: smooth, small, diverse.

B images, C channels, H W pixels, N images of one class. EDC uses none of them; its predecessors do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

DIVERSITY_SIDE = 32


class TotalVariation(NamedTuple):
    """Sums over the four directions to a neighbour (right, below, and both diagonals)."""

    l1: Tensor  # of the mean of |difference|
    l2: Tensor  # of the norm of all differences


def total_variation(images_BCHW: Tensor) -> TotalVariation:
    """How rough the images are.

    Source:
        SRe2L, Yin et al., NeurIPS 2023, official code.
    """
    below, right = images_BCHW[..., 1:, :], images_BCHW[..., 1:]
    above, left = images_BCHW[..., :-1, :], images_BCHW[..., :-1]
    differences = (
        right - left,
        below - above,
        below[..., :-1] - above[..., 1:],
        below[..., 1:] - above[..., :-1],
    )
    # The official code divides by 255 and multiplies again, which changes only the rounding.
    l1 = torch.stack([difference.abs().mean() for difference in differences]).sum()
    l2 = torch.stack([torch.linalg.vector_norm(difference) for difference in differences]).sum()
    return TotalVariation(l1, l2)


def mean_norm(images_BCHW: Tensor) -> Tensor:
    """Mean over the images of their L2 norm (the term behind the official flag `l2-scale`)."""
    return torch.stack([torch.linalg.vector_norm(image) for image in images_BCHW]).mean()


def diversity_loss(images_BCHW: Tensor, labels_B: Tensor, temperature: float = 4.0) -> Tensor:
    """A scalar >= 0, small if the images of each class have nothing in common; the sum over the classes.

    The images of a class, averaged down to 32 x 32, have a Gram matrix with eigenvalues l. The term is
    KL(softmax(l / temperature) || softmax(l)) without gradient through the first: it pulls one dominant
    direction towards the others. The images are normalised. A class with one image contributes 0.

    Source:
        G-VBSM, Shao et al., CVPR 2024, official code (its flag `nuc-norm`).
    Deviations:
        eigenvalues come from the solver for symmetric matrices, whose gradient is defined where eigenvalues
        meet; images of a class in other processes are not gathered.
    """
    pooled_BD = _averaged_down(images_BCHW).flatten(1)
    terms = []
    for label in labels_B.unique().tolist():
        mine_ND = pooled_BD[labels_B == label]
        eigenvalues_N = torch.linalg.eigvalsh(mine_ND @ mine_ND.T)
        softer_N = (eigenvalues_N / temperature).softmax(0).detach()
        terms.append(F.kl_div(eigenvalues_N.log_softmax(0), softer_N, reduction="sum"))
    return torch.stack(terms).sum()


def _averaged_down(images_BCHW: Tensor) -> Tensor:
    """To `DIVERSITY_SIDE`, if possible in whole windows: their backward on CUDA is deterministic."""
    height, width = images_BCHW.shape[-2:]
    if height % DIVERSITY_SIDE or width % DIVERSITY_SIDE:
        return F.adaptive_avg_pool2d(images_BCHW, DIVERSITY_SIDE)
    return F.avg_pool2d(images_BCHW, (height // DIVERSITY_SIDE, width // DIVERSITY_SIDE))
