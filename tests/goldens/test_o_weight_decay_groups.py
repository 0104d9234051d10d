"""Which torchvision parameters are decayed."""

from __future__ import annotations

import pytest
import torch
import torchvision

from edc_ray.core.weight_decay import weight_decay_groups
from tests.goldens.files import load_golden

FILE = "o_weight_decay_groups.json"


@pytest.mark.parametrize("network_name", sorted(load_golden(FILE)))
def test_groups_of_a_torchvision_network_equal_the_official_ones(network_name):
    with torch.device("meta"):
        network = torchvision.models.get_model(network_name, weights=None)
    groups = weight_decay_groups(network.named_parameters())
    expected = load_golden(FILE)[network_name]
    assert list(groups.decay) == expected["decay"]
    assert list(groups.no_decay) == expected["no_decay"]
