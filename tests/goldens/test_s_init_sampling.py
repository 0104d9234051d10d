"""Which real image each slot starts from in the official programs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.goldens.files import load_golden
from tests.goldens.official_draws import official_counted_choices, official_uniform_choices

FILE = "s_init_sampling.json"


@pytest.mark.parametrize(
    ("key", "choose"),
    [
        ("in10_class_and_choice", official_counted_choices),
        ("in1k_class_and_choice", official_uniform_choices),
    ],
)
def test_chosen_files_equal_the_official_ones(key, choose):
    golden = load_golden(FILE)
    assert golden[key]
    classes = [class_ for class_, _ in golden[key]]
    rng = np.random.RandomState(golden["numpy_seed"])
    assert choose(classes, golden["pool_sizes"], rng) == [choice for _, choice in golden[key]]
