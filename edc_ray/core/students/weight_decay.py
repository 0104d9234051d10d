"""Which parameters of a student get weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn


class WeightDecayGroups(NamedTuple):
    """Name -> parameter, in the order given."""

    decay: dict[str, nn.Parameter]
    no_decay: dict[str, nn.Parameter]


def weight_decay_groups(named_parameters: Iterable[tuple[str, nn.Parameter]]) -> WeightDecayGroups:
    """Split the named parameters of a module as the official student training does.

    A parameter decays if its name contains "weight" and it has more than one axis. Biases, norm scales and
    embeddings of other names do not decay.
    """
    groups = WeightDecayGroups({}, {})
    for name, parameter in named_parameters:
        decayed = "weight" in name and parameter.ndim > 1
        (groups.decay if decayed else groups.no_decay)[name] = parameter
    return groups
