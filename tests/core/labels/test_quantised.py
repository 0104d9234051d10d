from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edc_ray.core.labels.quantised import QuantisedCodec
from tests.core.label_codec_cases import check_within_bound, made_up_labels, tables
from tests.core.label_error_bounds import error_bound


@given(tables(), st.integers(2, 8))
@settings(max_examples=80, deadline=None)
def test_any_logits_come_back_within_the_stated_error(logits_NK: np.ndarray, bits: int) -> None:
    check_within_bound(QuantisedCodec(bits), logits_NK)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_stated_error_is_half_a_step_of_the_labels_own_range(bits: int) -> None:
    labels = made_up_labels().astype(np.float64)
    half_step = np.ptp(labels, axis=1) / (2**bits - 1) / 2
    bound = error_bound(QuantisedCodec(bits), labels)
    assert (bound <= 1.02 * half_step[:, None] + 0.02).all()


def test_a_constant_label_and_the_lowest_logit_come_back_exactly() -> None:
    labels = made_up_labels()
    labels[3] = 1.5
    decoded = QuantisedCodec(2).decode(QuantisedCodec(2).encode(labels))
    assert (decoded[3] == 1.5).all()
    lowest = labels.argmin(axis=1)[:, None]
    np.testing.assert_array_equal(
        np.take_along_axis(decoded, lowest, 1), np.take_along_axis(labels, lowest, 1).astype(np.float32)
    )


def test_a_label_does_not_depend_on_the_others() -> None:
    labels = made_up_labels()
    codec = QuantisedCodec(4)
    np.testing.assert_array_equal(
        codec.decode(codec.encode(labels))[5:6], codec.decode(codec.encode(labels[5:6]))
    )


def test_each_label_has_its_bytes() -> None:
    columns = QuantisedCodec(4).encode(made_up_labels(classes=41)).columns
    assert {name: column.shape[1:] for name, column in columns.items()} == {
        "logits_low": (), "logits_step": (), "logits_codes": (21,),
    }  # fmt: skip
