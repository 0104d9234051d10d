"""Base of the settings of our algorithms: frozen, typed, each field with its check.

The sections of the config are made of them, so that a field is written once. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """A frozen group of fields.

    Raises:
        ValueError: pydantic's ValidationError: an unknown field, a wrong type, a NaN, a value out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def _share_of_area(scale: tuple[float, float]) -> tuple[float, float]:
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError("Input should be two shares of the area, 0 < smallest <= largest <= 1")
    return scale


CropScale = Annotated[tuple[float, float], AfterValidator(_share_of_area)]
"""Smallest and largest share of an image's area."""
Beta = Annotated[float, Field(ge=0, lt=1)]
