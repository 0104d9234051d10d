from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edc_ray.core.labels.bits import (
    pack,
    pack_subsets,
    packed_bytes,
    subset_bits,
    unpack,
    unpack_subsets,
)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=20), st.integers(0, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_numbers_of_any_widths_come_back(widths: list[int], count: int, seed: int) -> None:
    bits_M = np.array(widths)
    values_NM = np.random.default_rng(seed).integers(0, 2**bits_M, size=(count, len(widths)))
    packed = pack(values_NM, bits_M)
    assert packed.shape == (count, packed_bytes(sum(widths)))
    np.testing.assert_array_equal(unpack(packed, bits_M), values_NM)


@given(st.integers(1, 8), st.integers(1, 30), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_equal_widths_are_packed_as_others_are(bits: int, size: int, seed: int) -> None:
    """Against the general form, which `pack` takes if the last column has no bits."""
    values_NM = np.random.default_rng(seed).integers(0, 2**bits, size=(3, size))
    general = pack(np.pad(values_NM, ((0, 0), (0, 1))), np.array([bits] * size + [0]))
    packed = pack(values_NM, np.full(size, bits))
    np.testing.assert_array_equal(packed, general)
    np.testing.assert_array_equal(unpack(packed, np.full(size, bits)), values_NM)


def test_the_first_number_has_the_highest_bits() -> None:
    assert pack(np.array([[5, 1, 2]]), np.array([3, 1, 4])).tolist() == [[0b10110010]]
    assert pack(np.array([[5, 1, 2]]), np.array([3, 3, 3])).tolist() == [[0b10100101, 0]]


@given(st.integers(1, 300), st.data())
@settings(max_examples=80, deadline=None)
def test_subsets_of_any_size_come_back_in_the_stated_bits(num_classes: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, num_classes))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    classes_Nk = np.stack([np.sort(rng.choice(num_classes, size, replace=False)) for _ in range(4)])
    packed = pack_subsets(classes_Nk, num_classes)
    assert packed.shape == (4, packed_bytes(subset_bits(num_classes, size)))
    np.testing.assert_array_equal(unpack_subsets(packed, num_classes, size), classes_Nk)


def test_subsets_take_few_bits() -> None:
    assert subset_bits(1000, 10) == 85
    assert subset_bits(10, 5) == 10
    assert subset_bits(10, 10) == 0


@pytest.mark.parametrize("size", [3, 40])
def test_bytes_that_are_no_subset_are_refused(size: int) -> None:
    """Every byte string is a subset or is refused; none gives a class that does not exist."""
    rng = np.random.default_rng(0)
    width, refused = packed_bytes(subset_bits(100, size)), 0
    for _ in range(300):
        data = rng.integers(0, 256, (1, width), dtype=np.uint8)
        try:
            classes = unpack_subsets(data, 100, size)
        except ValueError:
            refused += 1
            continue
        assert classes.min() >= 0
        assert classes.max() < 100
        assert (np.diff(classes) > 0).all()
    assert refused > 100
    with pytest.raises(ValueError, match="bytes"):
        unpack_subsets(np.zeros((1, width + 1), np.uint8), 100, size)


def test_other_bytes_than_the_numbers_fill_are_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        unpack(np.zeros((2, 3), np.uint8), np.array([4, 4]))
    with pytest.raises(ValueError, match="filled up"):
        unpack(np.array([[1]], np.uint8), np.array([4, 2]))
    with pytest.raises(ValueError, match="filled up"):
        unpack(np.array([[1]], np.uint8), np.array([3, 3]))
