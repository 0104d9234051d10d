"""The terms of the objective that look at a view's pixels and at no network."""

from __future__ import annotations

from torch import Tensor

from edc_ray.core.image_priors import diversity_loss, mean_norm, total_variation
from edc_ray.core.objective import TermName
from edc_ray.core.recover_state import RecoverSettings


def pixel_terms(seen_BCHW: Tensor, labels_B: Tensor, settings: RecoverSettings) -> dict[TermName, Tensor]:
    """Those of them that have a weight, scalars, differentiable."""
    terms: dict[TermName, Tensor] = {}
    if settings.tv_l1_weight or settings.tv_l2_weight:
        variation = total_variation(seen_BCHW)
        terms |= {"tv_l1": variation.l1, "tv_l2": variation.l2}
    if settings.l2_weight:
        terms["l2"] = mean_norm(seen_BCHW)
    if settings.diversity_weight:
        terms["diversity"] = diversity_loss(seen_BCHW, labels_B, settings.diversity_temperature)
    return {name: term for name, term in terms.items() if settings.term_weights[name]}
