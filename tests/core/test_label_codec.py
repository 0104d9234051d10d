from __future__ import annotations

import numpy as np
import pytest

from edc_ray.core.label_codec import LABEL_CODECS
from edc_ray.errors import NumericalError


def logits() -> np.ndarray:
    spread = 10.0 ** np.linspace(-9, 4.8, 60)
    return np.concatenate([spread, -spread, [0.0]]).astype(np.float32).reshape(11, 11)


@pytest.mark.parametrize("name", sorted(LABEL_CODECS))
def test_decoded_logits_lie_within_the_stated_error(name):
    codec = LABEL_CODECS[name]
    assert codec.name == name
    decoded = codec.decode(codec.encode(logits()))
    assert decoded.dtype == np.float32
    assert (np.abs(decoded.astype(np.float64) - logits()) <= codec.error_bound(logits())).all()


@pytest.mark.parametrize("name", sorted(LABEL_CODECS))
def test_columns_have_one_entry_for_each_label_and_encoding_again_changes_nothing(name):
    codec = LABEL_CODECS[name]
    columns = codec.encode(logits())
    again = codec.encode(codec.decode(columns))
    for key, column in columns.items():
        assert len(column) == len(logits())
        assert column.tobytes() == again[key].tobytes()


def test_half_precision_logits_come_back_exactly():
    halves = logits().astype(np.float16)
    columns = LABEL_CODECS["fp16"].encode(halves)
    assert columns["logits"].dtype == np.float16
    assert np.array_equal(LABEL_CODECS["fp16"].decode(columns), halves.astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, 65520.0])
def test_a_logit_that_half_precision_cannot_hold_is_refused_with_its_place(value):
    wrong = logits()
    wrong[2, 3] = value
    with pytest.raises(NumericalError, match="row 2, class 3"):
        LABEL_CODECS["fp16"].encode(wrong)
