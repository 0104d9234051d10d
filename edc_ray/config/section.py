"""The bases of the sections of a config: frozen, typed, and closed to unknown fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import ValidationInfo, field_validator

from edc_ray.core.settings import Settings

Layers = Literal["bn", "conv"]
Definition = Literal["pooled", "official"]


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


@dataclass(frozen=True)
class StatisticsRequest:
    """Statistics of the real images that one stage, or several together, ask for."""

    observers: tuple[str, ...] = ()
    """Whose layers are measured, in order."""
    layers: frozenset[Layers] = frozenset()
    definitions: frozenset[Definition] = frozenset()
    """Of the variance."""
    by_class: bool = False
    """Whether statistics of each class are needed, besides those of all images."""

    def __or__(self, other: StatisticsRequest) -> StatisticsRequest:
        return StatisticsRequest(
            tuple(dict.fromkeys(self.observers + other.observers)),
            self.layers | other.layers,
            self.definitions | other.definitions,
            self.by_class or other.by_class,
        )

    @property
    def needs_no_images(self) -> bool:
        """Whether the BatchNorms' own running estimates are enough, as in SRe2L and CDA."""
        return self.layers == {"bn"} and self.definitions == {"official"} and not self.by_class


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
