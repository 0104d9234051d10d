from __future__ import annotations

import math
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from edc_ray.config.section import Section


class Example(Section):
    rate: float = 0.5
    names: tuple[str, ...] = ("a",)


class Numbers(Section):
    count: int = 1
    pair: tuple[float, ...] = (1.0,)
    maybe: int | None = None
    side: Literal[1, 3] = 1
    either: bool | int = 3
    switch: bool = True
    anything: Any = None


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


@pytest.mark.parametrize("field", ["count", "pair", "maybe", "side"])
@pytest.mark.parametrize("value", [True, False])
def test_true_and_false_are_no_numbers(field: str, value: bool) -> None:
    with pytest.raises(ValidationError, match=rf"{field}\n.*should be a number, not true or false"):
        Numbers.model_validate({field: [value] if field == "pair" else value})


@pytest.mark.parametrize("field", ["either", "switch", "anything"])
def test_true_is_taken_where_a_switch_or_anything_may_stand(field: str) -> None:
    assert getattr(Numbers.model_validate({field: True}), field) is True


def test_a_default_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(ValidationError, match="rate"):
        WrongDefault()


def test_equal_sections_are_equal_and_hash_alike() -> None:
    assert Example(names=("a",)) == Example()
    assert hash(Example(names=("a",))) == hash(Example())
