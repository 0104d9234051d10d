from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from edc_ray.config.section import Section


class Example(Section):
    rate: float = 0.5
    names: tuple[str, ...] = ("a",)


class WrongDefault(Section):
    rate: float = "fast"  # type: ignore[assignment]


def test_a_section_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Example().rate = 1.0


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"rat\n.*Extra inputs"):
        Example.model_validate({"rat": 1.0})


@pytest.mark.parametrize("value", [math.nan, math.inf, "quick", None, [1.0]])
def test_a_number_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="rate"):
        Example.model_validate({"rate": value})


def test_a_default_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(ValidationError, match="rate"):
        WrongDefault()


def test_equal_sections_are_equal_and_hash_alike() -> None:
    assert Example(names=("a",)) == Example()
    assert hash(Example(names=("a",))) == hash(Example())
