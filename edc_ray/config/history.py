"""How the config has changed since runs are kept, so that finished work is found again.

A fingerprint names a field by its first name, and leaves a field that came later out where it has its absent
value: what every run did before there was the field. Neither ever changes for a field that has been released;
docs/RUN_FOLDERS.md says what else a release may do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Field that came later -> its absent value. A default may change, this never: a run without the field had it.
ABSENT_VALUES: dict[str, Any] = {
    "compile": "none",
    "dataset.image_column": None,
    "dataset.label_column": None,
    "dataset.repeated_names": "error",
    "dataset.transparency": "ignore",
    "dataset.on_bad_image": "error",
    "dataset.max_bad_images": 100,
}

# First name of a field -> its name now. Configs may have either.
MOVED_FIELDS: dict[str, str] = {"evaluate.labels": "relabel.labels"}


def first_name(field: str) -> str:
    """The name of a field in fingerprints."""
    return next((old for old, new in MOVED_FIELDS.items() if new == field), field)


def name_now(field: str) -> str:
    """The name of a field that may be given by an earlier one."""
    return MOVED_FIELDS.get(field, field)


def is_absent(field: str, value: Any) -> bool:
    """Whether a field that came later says what was done before there was the field."""
    return field in ABSENT_VALUES and ABSENT_VALUES[field] == value


def with_names_of_now(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A config's mapping with moved fields in their places; where both names stand, that of now counts."""
    result = dict(tree)
    for old, new in MOVED_FIELDS.items():
        value, result = _without(result, old)
        if value is not _MISSING and not _states(result, new):
            result = _with(result, new, value)
    return result


def unstated(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that came after a stored config was written, with their absent values."""
    return {field: value for field, value in ABSENT_VALUES.items() if not _states(tree, field)}


def with_absent_values(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config's mapping, complete: what it does not state was absent."""
    result = dict(tree)
    for field, value in unstated(tree).items():
        result = _with(result, field, value)
    return result


_MISSING = object()


def _states(tree: Mapping[str, Any], field: str) -> bool:
    return _without(tree, field)[0] is not _MISSING


def _without(tree: Mapping[str, Any], field: str) -> tuple[Any, dict[str, Any]]:
    """The value of a field, and the mapping without it."""
    section, _, name = field.rpartition(".")
    inner = tree.get(section) if section else tree
    if not isinstance(inner, Mapping) or name not in inner:
        return _MISSING, dict(tree)
    rest = {key: value for key, value in inner.items() if key != name}
    return inner[name], ({**tree, section: rest} if section else rest)


def _with(tree: Mapping[str, Any], field: str, value: Any) -> dict[str, Any]:
    section, _, name = field.rpartition(".")
    if not section:
        return {**tree, name: value}
    inner = tree.get(section) or {}
    # A section that is no mapping is refused with all else that is wrong.
    return {**tree, section: {**inner, name: value}} if isinstance(inner, Mapping) else dict(tree)
