from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from edc_ray.core.students.accuracy import (
    bar_above_chance,
    expected_calibration_error,
    fewest_images_above_chance,
    per_class_accuracy,
    topk_correct,
)

LABELS = torch.tensor([2, 0, 1])
LOGITS = torch.tensor([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.0, 1.0, 1.0]])


@pytest.mark.parametrize(
    ("k", "expected"), [(1, [True, False, True]), (2, [True, False, True]), (3, [True] * 3), (9, [True] * 3)]
)
def test_a_label_among_the_k_largest_counts(k, expected):
    assert topk_correct(LOGITS, LABELS, k).tolist() == expected


def test_equal_logits_rank_by_class_number():
    assert topk_correct(torch.zeros(3, 3), torch.tensor([0, 1, 2]), 2).tolist() == [True, True, False]


def test_topk_equals_torch_on_distinct_logits():
    logits = torch.randn(40, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 10
    expected = (logits.topk(5).indices == labels[:, None]).any(1)
    assert torch.equal(topk_correct(logits, labels, 5), expected)


def test_a_row_with_a_nan_is_wrong():
    logits = torch.tensor([[math.nan, math.nan], [math.nan, 1.0]])
    assert topk_correct(logits, torch.tensor([0, 1]), 2).tolist() == [False, False]


def test_k_below_one_is_refused():
    with pytest.raises(ValueError, match="k must be"):
        topk_correct(LOGITS, LABELS, 0)


def test_accuracy_of_each_class_and_nan_for_a_class_without_images():
    correct = torch.tensor([True, False, True, True])
    accuracy = per_class_accuracy(correct, torch.tensor([0, 0, 2, 2]), 3)
    assert accuracy[[0, 2]].tolist() == [0.5, 1.0]
    assert accuracy[1].isnan()


def test_a_sure_and_right_network_is_calibrated_and_a_sure_and_wrong_one_is_not():
    logits = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    assert expected_calibration_error(logits, torch.tensor([0, 1])) == pytest.approx(0, abs=1e-9)
    assert expected_calibration_error(logits, torch.tensor([1, 0])) == pytest.approx(1, abs=1e-9)


def test_calibration_error_is_the_weighted_gap_of_the_bins():
    confidence = torch.tensor([0.75, 0.75, 0.95], dtype=torch.float64)
    logits = torch.stack([confidence.log(), (1 - confidence).log()], dim=1)
    error = expected_calibration_error(logits, torch.tensor([0, 1, 0]), num_bins=10)
    assert error == pytest.approx((2 * abs(0.75 - 0.5) + 0.05) / 3)


def test_calibration_of_nan_logits_is_nan_and_of_no_images_refused():
    assert math.isnan(expected_calibration_error(torch.full((2, 2), math.nan), torch.tensor([0, 1])))
    with pytest.raises(ValueError, match="no images"):
        expected_calibration_error(torch.empty(0, 2), torch.empty(0, dtype=torch.int64))


def test_the_bar_is_three_deviations_of_a_binomial_share_above_chance():
    for num_classes, num_images in ((2, 10), (3, 24), (100, 7)):
        guesses = np.random.RandomState(0).binomial(num_images, 1 / num_classes, 400_000) / num_images
        expected = guesses.mean() + 3 * guesses.std()
        assert bar_above_chance(num_classes, num_images) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("num_classes", "fewest"), [(2, 10), (3, 5), (5, 3), (1000, 1)])
def test_an_accuracy_of_1_passes_from_the_fewest_images_on_and_not_below(num_classes: int, fewest: int):
    assert fewest_images_above_chance(num_classes) == fewest
    assert bar_above_chance(num_classes, fewest) < 1
    assert fewest == 1 or bar_above_chance(num_classes, fewest - 1) >= 1
