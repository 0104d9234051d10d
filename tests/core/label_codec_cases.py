"""Logits for the tests of the label codecs, and the promises of every codec."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from edc_ray.core.labels.codec import LabelCodec
from tests.core.label_error_bounds import error_bound

HALVES = np.finfo(np.float16)


@st.composite
def tables(draw: st.DrawFn, max_rows: int = 6, max_classes: int = 24) -> np.ndarray:
    """float32 [N, K]: of any spread up to the ends of half precision, with constant rows and ties."""
    count, classes = draw(st.integers(1, max_rows)), draw(st.integers(2, max_classes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    exponents = rng.uniform(-8, draw(st.sampled_from([0.0, 1.0, 4.8])), (count, 1))
    logits_NK = rng.normal(size=(count, classes)) * 10.0**exponents + draw(
        st.sampled_from([0.0, -3.0, 900.0])
    )
    if draw(st.booleans()):
        logits_NK[rng.integers(count)] = logits_NK[0, 0]  # a constant row
    if draw(st.booleans()):
        logits_NK = np.round(logits_NK)  # ties
    return np.clip(logits_NK, HALVES.min, HALVES.max).astype(np.float32)


def made_up_labels(count: int = 300, classes: int = 40, seed: int = 0) -> np.ndarray:
    """float16 logits of a linear classifier on few features, one class higher."""
    rng = np.random.default_rng(seed)
    logits_NK = rng.normal(size=(count, 6)) @ rng.normal(size=(6, classes)) + rng.normal(
        size=(count, classes), scale=0.3
    )
    logits_NK[np.arange(count), rng.integers(classes, size=count)] += 5
    return logits_NK.astype(np.float16)


def check_within_bound(codec: LabelCodec, logits_NK: np.ndarray) -> None:
    """Decoded logits are float32 within the stated error; the columns have a row for each label."""
    encoded = codec.encode(logits_NK)
    decoded_NK = codec.decode(encoded)
    assert (decoded_NK.dtype, decoded_NK.shape) == (np.float32, logits_NK.shape)
    assert {len(column) for column in encoded.columns.values()} == {len(logits_NK)}
    error_NK = np.abs(decoded_NK.astype(np.float64) - logits_NK.astype(np.float64))
    assert (error_NK <= error_bound(codec, logits_NK)).all()
