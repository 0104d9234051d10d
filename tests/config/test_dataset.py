from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from edc_ray.config.dataset import INFERRED_FIELDS, DatasetSpec
from edc_ray.config.load import load_recipe
from edc_ray.errors import ConfigError


def test_every_inferred_field_is_open_until_the_images_are_seen() -> None:
    spec = DatasetSpec()
    assert [getattr(spec, name) for name in INFERRED_FIELDS] == [None] * len(INFERRED_FIELDS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_classes", 1),
        ("image_size", 3),
        ("image_size", 1025),
        ("channels", 2),
        ("max_per_class", 0),
        ("max_val_per_class", 0),
        ("val_fraction", 0.0),
        ("val_fraction", 1.0),
        ("name", "two/parts"),
        ("name", ""),
        ("mean", ["grey"]),
        ("class_names", "cat"),
    ],
)
def test_values_that_no_dataset_has_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        DatasetSpec.model_validate({field: value})


def test_lists_of_yaml_become_tuples_so_that_a_spec_can_be_hashed() -> None:
    spec = DatasetSpec.model_validate({"mean": [0.5], "std": [0.25], "class_names": ["a", "b"]})
    assert (spec.mean, spec.std, spec.class_names) == ((0.5,), (0.25,), ("a", "b"))
    assert hash(spec) == hash(spec.model_copy())


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hidden@bucket/x",
        "https://host/x.parquet?sig=hidden",
        "https://host/x.parquet?hidden",
        "s3://bucket/x.parquet?hidden-token",
    ],
)
@pytest.mark.parametrize("field", ["train", "val"])
def test_a_dataset_url_with_a_secret_is_refused_and_not_shown(url: str, field: str) -> None:
    with pytest.raises(ConfigError, match="holds a password or a signature") as caught:
        load_recipe("digits", [f"dataset.{field}={url}"])
    assert "hidden" not in str(caught.value)


def test_a_pattern_with_question_marks_is_no_secret() -> None:
    url = "s3://bucket/class?/img_??.png"
    assert load_recipe("digits", [f"dataset.train={url}"]).dataset.train == url
