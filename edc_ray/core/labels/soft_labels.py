"""Soft labels from several observers. O observers, B images, K classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

LabelNorm = Literal["none", "frobenius"]


def ensemble_logits(logits_OBK: Sequence[Tensor] | Tensor, norm: LabelNorm = "none") -> Tensor:
    """Mean of the observers' raw logits, [B, K].

    The norm "frobenius" first rescales each observer's matrix to the mean Frobenius norm of all, so that no
    observer dominates by the size of its logits. A label then depends on the other labels of the call: pass
    one mixing group in each call.

    Raises:
        ValueError: no observer, or an unknown norm.

    Source:
        EDC, arXiv:2404.13733; "frobenius": G-VBSM, Shao et al., CVPR 2024.
    """
    if len(logits_OBK) == 0:
        raise ValueError("labels need at least one observer")
    stacked_OBK = logits_OBK if isinstance(logits_OBK, Tensor) else torch.stack(list(logits_OBK))
    if norm == "frobenius":
        norm_O11 = stacked_OBK.flatten(1).norm(dim=1).reshape(-1, 1, 1)
        # Observers whose logits are all zero do not change.
        stacked_OBK = stacked_OBK / norm_O11.clamp(min=torch.finfo(norm_O11.dtype).tiny) * norm_O11.mean()
    elif norm != "none":
        raise ValueError(f"norm must be 'none' or 'frobenius', got {norm!r}")
    return stacked_OBK.mean(dim=0)
