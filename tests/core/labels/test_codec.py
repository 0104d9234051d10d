from __future__ import annotations

import numpy as np
import pytest

from edc_ray.core.labels.codec import EncodedLabels, Fp16Codec, in_blocks, shared_array, stored_column
from edc_ray.core.labels.specification import label_codec
from edc_ray.errors import NumericalError
from tests.core.label_codec_cases import check_within_bound, made_up_labels

ALL = (
    "fp16",
    "q8",
    "q5",
    "q2",
    "pca16",
    "pca90",
    "top3",
    "top3_q5",
    "top7t20_q4",
    "pca20_top3_q5",
    "top99_q6",
)


def logits() -> np.ndarray:
    spread = 10.0 ** np.linspace(-9, 4.8, 60)
    return np.concatenate([spread, -spread, [0.0]]).astype(np.float32).reshape(11, 11)


@pytest.mark.parametrize("spec", ALL)
def test_decoded_logits_lie_within_the_stated_error(spec: str) -> None:
    check_within_bound(label_codec(spec), logits())
    check_within_bound(label_codec(spec), made_up_labels())


@pytest.mark.parametrize("spec", ALL)
def test_half_precision_is_the_start_of_every_codec(spec: str) -> None:
    codec, exact = label_codec(spec), made_up_labels().astype(np.float32) * 1.0001
    assert (exact != exact.astype(np.float16)).any()
    ours, theirs = codec.encode(exact), codec.encode(exact.astype(np.float16))
    for name, column in ours.columns.items():
        np.testing.assert_array_equal(column, theirs.columns[name], strict=True)


@pytest.mark.parametrize("spec", ALL)
def test_labels_are_decoded_in_blocks_as_in_one(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, labels = label_codec(spec), made_up_labels()
    whole = codec.encode(labels)
    monkeypatch.setattr("edc_ray.core.labels.codec.ROWS_AT_ONCE", 7)
    cut = codec.encode(labels)
    for name, column in whole.columns.items():
        np.testing.assert_array_equal(column, cut.columns[name], strict=True)
    np.testing.assert_array_equal(codec.decode(cut), codec.decode(whole))
    part = {name: column[40:43] for name, column in whole.columns.items()}
    few = codec.decode(EncodedLabels(part, whole.num_classes, whole.shared))
    np.testing.assert_array_equal(few, codec.decode(whole)[40:43])


def test_half_precision_logits_come_back_exactly() -> None:
    halves = logits().astype(np.float16)
    encoded = Fp16Codec().encode(halves)
    assert encoded.columns["logits"].dtype == np.float16
    assert np.array_equal(Fp16Codec().decode(encoded), halves.astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, 65520.0])
@pytest.mark.parametrize("spec", ALL)
def test_a_logit_that_half_precision_cannot_hold_is_refused_with_its_place(spec: str, value: float) -> None:
    wrong = logits()
    wrong[2, 3] = value
    with pytest.raises(NumericalError, match=f"cannot be stored as {spec}") as caught:
        label_codec(spec).encode(wrong)
    assert "row 2, class 3" in str(caught.value)


@pytest.mark.parametrize("spec", ALL)
def test_missing_columns_and_columns_of_another_kind_are_refused(spec: str) -> None:
    codec, encoded = label_codec(spec), label_codec(spec).encode(made_up_labels())
    for name, column in encoded.columns.items():
        others = {key: value for key, value in encoded.columns.items() if key != name}
        with pytest.raises(ValueError, match=name):
            codec.decode(EncodedLabels(others, encoded.num_classes, encoded.shared))
        wide = others | {name: column.astype(np.float64)}
        with pytest.raises(ValueError, match=name):
            codec.decode(EncodedLabels(wide, encoded.num_classes, encoded.shared))
    for name in encoded.shared:
        others = {key: value for key, value in encoded.shared.items() if key != name}
        with pytest.raises(ValueError, match=name):
            codec.decode(EncodedLabels(encoded.columns, encoded.num_classes, others))


def test_columns_and_shared_arrays_that_are_not_finite_are_refused() -> None:
    bad = np.array([1.0, np.nan], np.float16)
    with pytest.raises(ValueError, match="NaN or Inf"):
        stored_column(EncodedLabels({"x": bad}, 2), "x", np.float16)
    with pytest.raises(ValueError, match="NaN or Inf"):
        shared_array(EncodedLabels({}, 2, {"x": bad}), "x", np.float16, (2,))


def test_no_rows_are_one_empty_block() -> None:
    assert in_blocks(lambda rows: {"a": np.zeros(rows.stop - rows.start)}, 0)["a"].shape == (0,)
