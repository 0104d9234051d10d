from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edc_ray.core.labels.components import ComponentsCodec
from edc_ray.core.labels.top import TopCodec
from tests.core.label_codec_cases import check_within_bound, made_up_labels, tables


@given(
    tables(),
    st.integers(1, 30),
    st.sampled_from([None, 2, 5, 8]),
    st.sampled_from([1.0, 20.0]),
    st.sampled_from([None, 12, 60]),
)
@settings(max_examples=100, deadline=None)
def test_any_logits_come_back_within_the_stated_error(
    logits_NK: np.ndarray, size: int, bits: int | None, temperature: float, components: int | None
) -> None:
    below = ComponentsCodec(components) if components else None
    check_within_bound(TopCodec(size, bits, temperature, below), logits_NK)


def decoded(codec: TopCodec, labels: np.ndarray) -> np.ndarray:
    return codec.decode(codec.encode(labels)).astype(np.float64)


@pytest.mark.parametrize("components", [None, ComponentsCodec(30)])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kept_logits_are_exact_and_the_mass_of_the_others_is_right_at_the_temperature(
    temperature: float, components: ComponentsCodec | None
) -> None:
    labels = made_up_labels().astype(np.float64)
    back = decoded(TopCodec(5, None, temperature, components), made_up_labels())
    kept = labels >= np.sort(labels, axis=1)[:, -5:].min(axis=1, keepdims=True)
    np.testing.assert_array_equal(back[kept], labels[kept])
    mass, stored = (np.where(kept, 0, np.exp(one / temperature)).sum(axis=1) for one in (labels, back))
    np.testing.assert_allclose(stored, mass, rtol=2e-3)


def test_at_a_high_temperature_the_others_have_their_mean() -> None:
    labels = made_up_labels().astype(np.float64)
    back = decoded(TopCodec(5, None, 999.0), made_up_labels())
    others = np.sort(labels, axis=1)[:, :-5]
    np.testing.assert_allclose(back.min(axis=1), others.mean(axis=1), atol=0.02)


def test_of_equal_logits_the_first_classes_are_kept() -> None:
    labels = np.array([[1.0, 2.0, 2.0, 2.0, 0.0]], np.float16)
    back = decoded(TopCodec(2), labels)
    np.testing.assert_allclose(back[0, [1, 2]], 2)
    assert back[0, 3] < 1.9


@pytest.mark.parametrize("size", [3, 4, 50])
def test_with_all_classes_kept_nothing_is_lost_and_no_classes_are_stored(size: int) -> None:
    labels = made_up_labels(classes=3)
    encoded = TopCodec(size, components=ComponentsCodec(8)).encode(labels)
    assert list(encoded.columns) == ["logits_values"]
    np.testing.assert_array_equal(decoded(TopCodec(size), labels), labels.astype(np.float64))


def test_two_classes() -> None:
    labels = np.array([[3.0, -1.0], [0.5, 0.5]], np.float16)
    np.testing.assert_allclose(decoded(TopCodec(1), labels), labels)


def test_a_background_of_components_leaves_less_error_than_one_number() -> None:
    labels = made_up_labels()
    plain, below = (
        np.square(decoded(TopCodec(3, 5, 20.0, components), labels) - labels).mean()
        for components in (None, ComponentsCodec(30))
    )
    assert below < plain / 2


def test_bytes_of_a_label() -> None:
    columns = TopCodec(10, 5).encode(made_up_labels(classes=1000)).columns
    sizes = {name: column[0].nbytes for name, column in columns.items()}
    assert sizes == {
        "logits_classes": 11, "logits_values": 7, "logits_rest": 1, "logits_low": 1, "logits_high": 1,
    }  # fmt: skip


@pytest.mark.parametrize("grid", ["value_range", "rest_range"])
def test_a_damaged_grid_is_refused(grid: str) -> None:
    codec = TopCodec(3, 5)
    encoded = codec.encode(made_up_labels())
    for value in (np.array([1e30, 1.0]), np.array([np.nan, 1.0]), np.array([1.0])):
        with pytest.raises(ValueError, match=grid):
            codec.decode(replace(encoded, shared=dict(encoded.shared) | {grid: value}))
