"""The objective of an image: a weighted sum of the terms in `TERMS`.

To add a term, follow "Where a change goes" in ARCHITECTURE.md. Reports then show its curve with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from edc_ray.core.recover.flatness import flatness_loss
from edc_ray.core.recover.priors import TotalVariation, diversity_loss, mean_norm, total_variation
from edc_ray.core.recover.settings import RecoverSettings


@dataclass
class Seen:
    """What one iteration shows its terms. B images, K classes."""

    images: Tensor  # [B, C, H, W], the view, with gradient
    labels: Tensor  # int64 [B]
    logits: Tensor  # [B, K], the observer's
    settings: RecoverSettings
    match: Callable[[], tuple[Tensor, Tensor]] | None  # gives the matching loss and its distances
    average_logits: Callable[[], Tensor]  # gives [B, K], of the same view of the images' running average

    @cached_property
    def matching(self) -> tuple[Tensor, Tensor]:
        assert self.match is not None
        return self.match()

    @cached_property
    def variation(self) -> TotalVariation:
        return total_variation(self.images)


class Term(NamedTuple):
    """The name of its curve, its weight, and the function that gives its value, not weighted."""

    name: str
    weight: Callable[[RecoverSettings], float]
    value: Callable[[Seen], Tensor]


def _flatness(seen: Seen) -> Tensor:
    return flatness_loss(seen.logits, seen.average_logits(), seen.settings.flatness_temperature)


def _diversity(seen: Seen) -> Tensor:
    return diversity_loss(seen.images, seen.labels, seen.settings.diversity_temperature)


# In the order in which they are computed and added up.
TERMS = (
    Term("cross_entropy", lambda _: 1.0, lambda seen: F.cross_entropy(seen.logits, seen.labels)),
    Term("matching", lambda settings: settings.matching_weight, lambda seen: seen.matching[0]),
    Term("flatness", lambda settings: settings.flatness_weight, _flatness),
    Term("tv_l1", lambda settings: settings.tv_l1_weight, lambda seen: seen.variation.l1),
    Term("tv_l2", lambda settings: settings.tv_l2_weight, lambda seen: seen.variation.l2),
    Term("l2", lambda settings: settings.l2_weight, lambda seen: mean_norm(seen.images)),
    Term("diversity", lambda settings: settings.diversity_weight, _diversity),
)


def objective(seen: Seen) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum, and the terms that have a weight, not weighted."""
    weights = {term.name: term.weight(seen.settings) for term in TERMS}
    terms = {term.name: term.value(seen) for term in TERMS if weights[term.name]}
    return weighted_objective(terms, weights), terms


def weighted_objective(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The sum of weight * term over the scalar terms given. A term of weight 1 is added as it is."""
    parts = [term if weights[name] == 1 else term * weights[name] for name, term in terms.items()]
    return torch.stack(parts).sum() if len(parts) > 1 else parts[0]
