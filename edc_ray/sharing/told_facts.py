"""The form of what edc_ray.json tells of how a condensed set was made: anyone may have written it.

Whoever shows these facts relies on this form. What has another one is not believed in any part.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator


def checked_facts(told: Any) -> dict[str, Any] | None:
    """The facts among some JSON value; None where they do not have the form."""
    try:
        return _Facts.model_validate(told).model_dump(mode="json", exclude_unset=True)
    except ValidationError:
        return None


class _Part(BaseModel):
    """What is looked at; anything else may stand beside it."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Init(_Part):
    kind: str


class _Recover(_Part):
    enabled: bool
    iterations: int


class _Relabel(_Part):
    epochs: int
    mix: str


class _Evaluate(_Part):
    labels: str


class _Config(_Part):
    device: str
    precision: str
    init: _Init
    recover: _Recover
    relabel: _Relabel
    evaluate: _Evaluate


class _Train(_Part):
    images: int
    sha256: str


class _Data(_Part):
    train: _Train


class _Observer(_Part):
    sha256: str
    top1: float | None = None


class _Student(_Part):
    row: Literal["condensed", "init", "random", "random_hard", "full"]
    ipc: int | None
    student: str
    seed: int
    top1: float
    top5: float | None = None
    ece: float | None = None
    note: str | None = None


class _Results(_Part):
    students: list[_Student]
    full_cited: float | None = None
    hardware: str | None = None

    @field_validator("students")
    @classmethod
    def _each_once(cls, students: list[_Student]) -> list[_Student]:
        if len({(one.row, one.ipc, one.student, one.seed) for one in students}) < len(students):
            raise ValueError("a student stands there twice")
        return students


class _Images(_Part):
    whole: bool


class _Facts(BaseModel):
    """Facts as edc_ray.json tells them; what is not named here is not kept."""

    model_config = ConfigDict(extra="ignore", strict=True)

    method: str | None = Field(max_length=80)
    seed: int | None
    config: _Config | None
    data: _Data | None
    observers: dict[str, _Observer]
    made_by: dict[str, dict[str, str]]
    results: _Results | None
    images: _Images | None = None
    license: str | None = Field(None, max_length=80)
    exported_by: str | None = Field(None, max_length=80)
