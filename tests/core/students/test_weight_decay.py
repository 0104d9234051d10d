from __future__ import annotations

from typing import Any

from torch import nn

from edc_ray.core.students.weight_decay import weight_decay_groups


def test_only_weights_of_several_axes_are_decayed():
    network: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    network.register_parameter("position", nn.Parameter(network[2].weight.detach().clone()))
    groups = weight_decay_groups(network.named_parameters())
    assert set(groups.decay) == {"0.weight", "2.weight"}
    assert set(groups.no_decay) == {"0.bias", "1.weight", "1.bias", "2.bias", "position"}
    assert groups.decay["0.weight"] is network[0].weight
