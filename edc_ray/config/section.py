"""The base of every section of a config: frozen, typed, and closed to unknown fields."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import ValidationInfo, field_validator

from edc_ray.config.statistics_request import StatisticsRequest
from edc_ray.core.settings import Settings


class Section(Settings):
    """Settings that take no true or false for a number."""

    @field_validator("*", mode="before")
    @classmethod
    def _takes_no_bool_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # To pydantic, as to Python, true is the number 1.
        if _holds_bool(value):
            kinds = _kinds_in(cls.model_fields[info.field_name or ""].annotation)
            is_number = any(kind in (int, float) or isinstance(kind, int) for kind in kinds)
            if is_number and bool not in kinds:
                raise ValueError("Input should be a number, not true or false")
        return value


class StageSection(Section):
    """Settings of one stage. `RunConfig` has the sections in the order of the stages."""

    def statistics_request(self, all_observers: tuple[str, ...]) -> StatisticsRequest:
        """Which statistics the stage reads: by default none. `all_observers` are those of squeeze."""
        return StatisticsRequest()


def _holds_bool(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_bool, value)))


def _kinds_in(annotation: Any) -> list[Any]:
    """Types, and values of Literals, that an annotation is made of."""
    arguments = get_args(annotation)
    return [kind for argument in arguments for kind in _kinds_in(argument)] if arguments else [annotation]
