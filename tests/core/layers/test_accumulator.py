from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edc_ray.core.layers.accumulator import LayerKind, StatisticsAccumulator
from edc_ray.core.layers.moments import LayerStatistics
from tests.core.one_layer import layer_statistics

KINDS: dict[str, LayerKind] = {"stem": "conv", "norm": "bn"}
LABELS = torch.tensor([7, 2, 2, 9, 7, 2, 9, 9, 9, 2])


def _activations() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "stem": torch.randn(10, 3, 8, 8, generator=generator) * 2 + 50,
        "norm": torch.randn(10, 5, 4, 4, generator=generator),
    }


def _accumulate(sizes: list[int]) -> list[StatisticsAccumulator]:
    """One accumulator for each data batch."""
    activations, parts, start = _activations(), [], 0
    for size in sizes:
        part = StatisticsAccumulator(KINDS, 4)
        where = slice(start, start + size)
        part.add({name: x[where] for name, x in activations.items()}, LABELS[where])
        parts.append(part)
        start += size
    return parts


def _merged(parts: list[StatisticsAccumulator]) -> StatisticsAccumulator:
    total = StatisticsAccumulator(KINDS, 4)
    for part in parts:
        total.merge(part)
    return total


def _assert_close(ours: LayerStatistics, expected: LayerStatistics) -> None:
    for left, right in zip(ours.quantities, expected.quantities, strict=True):
        torch.testing.assert_close(left, right.double(), rtol=1e-5, atol=1e-5)


def test_pooled_statistics_are_those_of_all_images_as_one_batch() -> None:
    total = _merged(_accumulate([4, 3, 3]))
    for name, x in _activations().items():
        patch_side = 4 if KINDS[name] == "conv" else None
        _assert_close(total.pooled_global(name), layer_statistics(x.double(), patch_side))
        for row, label in enumerate(total.class_ids.tolist()):
            ours = total.pooled_class(name).map(lambda rows, row=row: rows[row])
            _assert_close(ours, layer_statistics(x[label == LABELS].double(), patch_side))


def test_official_global_variance_is_the_mean_of_the_variances_within_batches() -> None:
    sizes = [4, 3, 3]
    total = _merged(_accumulate(sizes))
    for name, x in _activations().items():
        variances = [part.double().var((0, 2, 3), correction=0) * len(part) for part in x.split(sizes)]
        ours = total.official_global(name).channel_variance
        torch.testing.assert_close(ours, torch.stack(variances).sum(0) / len(x), rtol=1e-5, atol=1e-6)
        assert (ours < total.pooled_global(name).channel_variance).all()


def test_official_class_variance_is_the_mean_of_the_variances_within_images() -> None:
    total = _merged(_accumulate([10]))
    within = _activations()["norm"].double().var((2, 3), correction=0)
    expected = torch.stack([within[label == LABELS].mean(0) for label in (2, 7, 9)])
    torch.testing.assert_close(total.official_class("norm").channel_variance, expected, rtol=1e-5, atol=1e-6)


def test_adding_batches_to_one_accumulator_equals_merging_one_for_each_bit_for_bit() -> None:
    activations, one = _activations(), StatisticsAccumulator(KINDS, 4)
    for where in (slice(0, 4), slice(4, 7), slice(7, 10)):
        one.add({name: x[where] for name, x in activations.items()}, LABELS[where])
    merged = _merged(_accumulate([4, 3, 3])).to_arrays()
    for key, array in one.to_arrays().items():
        np.testing.assert_array_equal(array, merged[key], err_msg=key)


def test_class_sums_are_exact_whatever_parts_batches_are_dealt_to() -> None:
    parts = [_accumulate([1] * 10) for _ in range(2)]
    left = _merged(parts[0]).to_arrays()
    right = _merged([_merged(parts[1][7:]), _merged(parts[1][:2]), _merged(parts[1][2:7])]).to_arrays()
    for key, array in left.items():
        if key.endswith(("_mean", "_variance")) and "batch" not in key:
            np.testing.assert_array_equal(array, right[key], err_msg=key)


def test_arrays_written_and_read_merge_like_the_original() -> None:
    parts = _accumulate([4, 6])
    arrays = [part.to_arrays() for part in parts]
    assert {array.dtype for array in arrays[0].values()} == {np.dtype(np.float64)}
    assert "stem|conv|patch_variance" in arrays[0]
    assert "norm|bn|patch_variance" not in arrays[0]
    again = _merged([StatisticsAccumulator.from_arrays(each) for each in arrays])
    for key, array in _merged(parts).to_arrays().items():
        np.testing.assert_array_equal(array, again.to_arrays()[key], err_msg=key)


def test_an_empty_accumulator_survives_writing_and_merging() -> None:
    empty = StatisticsAccumulator.from_arrays(StatisticsAccumulator(KINDS, 4).to_arrays())
    (part,) = _accumulate([10])
    empty.merge(part)
    part.merge(StatisticsAccumulator(KINDS, 4))
    torch.testing.assert_close(empty.pooled_class("stem").patch_mean, part.pooled_class("stem").patch_mean)


def test_merging_leaves_the_merged_part_alone() -> None:
    parts = _accumulate([4, 6])
    before = parts[0].to_arrays()
    _merged(parts)
    for key, array in parts[0].to_arrays().items():
        np.testing.assert_array_equal(array, before[key])


def test_only_classes_that_are_present_are_stored() -> None:
    (part,) = _accumulate([3])
    assert part.class_ids.tolist() == [2, 7]
    assert part.counts.tolist() == [2, 1]
    assert part.to_arrays()["stem|conv|channel_mean"].shape == (2, 3)


def test_images_of_another_size_are_refused() -> None:
    (part,) = _accumulate([10])
    activations = {"stem": torch.zeros(1, 3, 16, 16), "norm": torch.zeros(1, 5, 4, 4)}
    with pytest.raises(ValueError, match=r"'stem'.*one size"):
        part.add(activations, torch.tensor([0]))
    with pytest.raises(ValueError, match="different layers"):
        part.merge(StatisticsAccumulator({"norm": "bn"}, 4))


def test_sums_made_in_inference_mode_can_be_added_to_outside_of_it() -> None:
    part = StatisticsAccumulator(KINDS, 4)
    with torch.inference_mode():
        part.add(_activations(), LABELS)
    (other,) = _accumulate([10])
    part.merge(other)
    assert part.counts.sum() == 20


@st.composite
def data_in_parts(draw: st.DrawFn) -> tuple[dict[str, Tensor], Tensor, list[int], int]:
    """Activations of both kinds of layers in any sizes, labels, sizes of three parts, a patch side."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=3, max_size=3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    offset = draw(st.sampled_from([0.0, 30.0]))

    def layer() -> Tensor:
        channels, height, width = (draw(st.integers(1, most)) for most in (3, 9, 9))
        return torch.randn(sum(sizes), channels, height, width, generator=generator) + offset

    labels = torch.tensor(draw(st.lists(st.integers(0, 3), min_size=sum(sizes), max_size=sum(sizes))))
    return {"stem": layer(), "norm": layer()}, labels, sizes, draw(st.sampled_from([2, 4]))


@settings(max_examples=12)
@given(data_in_parts())
def test_merging_is_associative_and_equals_one_pass(
    data: tuple[dict[str, Tensor], Tensor, list[int], int],
) -> None:
    activations, labels, sizes, patch_side = data
    starts = [0, sizes[0], sizes[0] + sizes[1]]

    def of(*batches: slice) -> StatisticsAccumulator:
        made = StatisticsAccumulator(KINDS, patch_side)
        for where in batches:
            made.add({name: x[where] for name, x in activations.items()}, labels[where])
        return made

    cuts = [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    left, right, tail = of(cuts[0]), of(cuts[0]), of(cuts[1])
    left.merge(of(cuts[1]))
    left.merge(of(cuts[2]))
    tail.merge(of(cuts[2]))
    right.merge(tail)
    for key, array in left.to_arrays().items():
        np.testing.assert_allclose(array, right.to_arrays()[key], rtol=1e-12, atol=1e-12, err_msg=key)
    whole = of(slice(0, len(labels)))
    for name in KINDS:
        for mine, once in (
            (left.pooled_global(name), whole.pooled_global(name)),
            (left.pooled_class(name), whole.pooled_class(name)),
            (left.official_class(name), whole.official_class(name)),
        ):
            for merged, expected in zip(mine.quantities, once.quantities, strict=True):
                torch.testing.assert_close(merged, expected, rtol=1e-6, atol=1e-6)
