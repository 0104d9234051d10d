from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edc_ray.core.labels.codec import EncodedLabels
from edc_ray.core.labels.components import ComponentsCodec
from tests.core.label_codec_cases import check_within_bound, made_up_labels, tables


@given(tables(), st.integers(1, 120))
@settings(max_examples=60, deadline=None)
def test_any_logits_come_back_within_the_stated_error(logits_NK: np.ndarray, bits: int) -> None:
    check_within_bound(ComponentsCodec(bits), logits_NK)


def mean_squared_error(bits: int, labels: np.ndarray) -> float:
    codec = ComponentsCodec(bits)
    return float(np.square(codec.decode(codec.encode(labels)) - labels.astype(np.float64)).mean())


def test_more_bits_leave_less_error() -> None:
    found = [mean_squared_error(bits, made_up_labels()) for bits in (8, 16, 32, 64, 128, 256, 400)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 1e-4 * float(np.var(made_up_labels().astype(np.float64)))


def test_logits_of_few_dimensions_need_few_bits() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.normal(size=(500, 2)) @ rng.normal(size=(2, 50))).astype(np.float16)
    encoded = ComponentsCodec(20).encode(labels)
    assert encoded.shared["bits"].tolist() == [10, 10]
    assert mean_squared_error(20, labels) < 1e-5 * float(np.var(labels.astype(np.float64)))


def test_equal_labels_need_none() -> None:
    labels = np.tile(np.arange(5, dtype=np.float16), (4, 1))
    encoded = ComponentsCodec(16).encode(labels)
    np.testing.assert_allclose(ComponentsCodec(16).decode(encoded), labels, atol=1e-3)


def test_codes_are_sums_of_whole_numbers_whatever_order_they_are_added_in() -> None:
    """Every machine decodes the same, because the product is exact and its order does not matter."""
    codec, labels = ComponentsCodec(60), made_up_labels()
    encoded = codec.encode(labels)
    turned = dict(encoded.shared) | {"half_steps": encoded.shared["half_steps"][:, ::-1].copy()}
    turned["mean"] = encoded.shared["mean"][::-1].copy()
    mirrored = codec.decode(EncodedLabels(encoded.columns, encoded.num_classes, turned))
    np.testing.assert_array_equal(mirrored[:, ::-1], codec.decode(encoded))


def test_components_of_other_labels_can_be_used() -> None:
    codec, labels = ComponentsCodec(60), made_up_labels()
    fit = codec.fit(made_up_labels(seed=1))
    encoded = codec.encode(labels, fit)
    np.testing.assert_array_equal(encoded.shared["mean"], fit.components.mean)
    assert np.square(codec.decode(encoded) - labels.astype(np.float64)).mean() > mean_squared_error(
        60, labels
    )


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("bits", np.array([200], np.uint8), "bits"),
        ("bits", np.array([9, 9], np.uint8), "half_steps"),
        ("exponent", np.array(5000, np.int16), "half_steps in units"),
        ("mean", np.full(40, np.nan, np.float32), "NaN"),
        ("half_steps", np.zeros((1, 3), np.int16), "half_steps"),
    ],
)
def test_damaged_components_are_refused(name: str, value: np.ndarray, match: str) -> None:
    codec = ComponentsCodec(20)
    encoded = codec.encode(made_up_labels())
    damaged = replace(encoded, shared=dict(encoded.shared) | {name: value})
    with pytest.raises(ValueError, match=match):
        codec.decode(damaged)
