"""Which parameters of a student are decayed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn


class WeightDecayGroups(NamedTuple):
    """Name -> parameter, in the order given."""

    decay: dict[str, nn.Parameter]
    no_decay: dict[str, nn.Parameter]


def weight_decay_groups(named_parameters: Iterable[tuple[str, nn.Parameter]]) -> WeightDecayGroups:
    """Split parameters as the official student training does.

    Args:
        named_parameters: of `module.named_parameters()`.

    Returns:
        Decayed are those whose name contains "weight" and that have more than one axis; biases, norm scales
        and embeddings of other names are not.
    """
    groups = WeightDecayGroups({}, {})
    for name, parameter in named_parameters:
        decayed = "weight" in name and parameter.ndim > 1
        (groups.decay if decayed else groups.no_decay)[name] = parameter
    return groups
