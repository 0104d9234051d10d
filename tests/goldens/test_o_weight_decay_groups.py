"""Which torchvision parameters are decayed."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from edc_ray.core.students.weight_decay import weight_decay_groups
from tests.goldens.files import load_golden

FILE = "o_weight_decay_groups.json"


class WithoutWeights(TorchFunctionMode):
    """Weights take no memory; what a network computes while it is built (RegNet its widths) is computed."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def build(name: str) -> nn.Module:
    # These two start from a slow scipy draw unless told otherwise, and warn.
    settings = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with WithoutWeights():
        return torchvision.models.get_model(name, weights=None, **settings)


@pytest.mark.parametrize("network_name", sorted(load_golden(FILE)))
def test_groups_of_a_torchvision_network_equal_the_official_ones(network_name):
    network = build(network_name)
    groups = weight_decay_groups(network.named_parameters())
    expected = load_golden(FILE)[network_name]
    assert list(groups.decay) == expected["decay"]
    assert list(groups.no_decay) == expected["no_decay"]
