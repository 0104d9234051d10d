"""Order of the images in the official relabelling."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from edc_ray.core.views.official_views import official_relabel_orders
from tests.goldens.files import load_golden

FILE = "r_relabel_sampler_order.npz"


@pytest.mark.parametrize("case", sorted(load_golden(FILE)))
def test_epoch_orders_equal_the_official_ones(case):
    expected = load_golden(FILE)[case]
    num_images, seed = (int(number) for number in re.findall(r"\d+", case))
    orders = islice(official_relabel_orders(num_images, seed), len(expected))
    assert [order.tolist() for order in orders] == expected.tolist()
