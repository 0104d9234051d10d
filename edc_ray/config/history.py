"""How the config has changed since the first runs that are kept, so that a run finds its finished work.

A fingerprint has a field under its first name. It leaves out a field that came later and has its absent
value: what every run did before the field existed. For a released field neither ever changes;
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
    "dataset.decoder": "pillow",
}

# First name of a field -> its name now. Configs may have either.
MOVED_FIELDS: dict[str, str] = {"evaluate.labels": "relabel.labels"}


def first_name(field: str) -> str:
    """The name of a field in fingerprints."""
    return next((old for old, new in MOVED_FIELDS.items() if new == field), field)


def name_now(field: str) -> str:
    """The name of a field that may have its earlier one."""
    return MOVED_FIELDS.get(field, field)


def with_names_of_now(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A config's mapping with moved fields in their places; a value under the name of now wins."""
    result = _copied(tree)
    for old, new in MOVED_FIELDS.items():
        if _states(result, old):
            holder, name = _place(result, old)
            value = holder.pop(name)
            if not _states(result, new):
                _set(result, new, value)
    return result


def unstated(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that came after a stored config was written, with their absent values."""
    return {field: value for field, value in ABSENT_VALUES.items() if not _states(tree, field)}


def with_absent_values(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config's mapping, complete: what it does not state was absent."""
    result = _copied(tree)
    for field, value in unstated(tree).items():
        _set(result, field, value)
    return result


def _copied(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dict(part) if isinstance(part, Mapping) else part for name, part in tree.items()}


def _place(tree: Mapping[str, Any], field: str) -> tuple[Any, str]:
    """The section that holds a field, or the tree itself, and the field's name there."""
    section, _, name = field.rpartition(".")
    return (tree.get(section) if section else tree), name


def _states(tree: Mapping[str, Any], field: str) -> bool:
    holder, name = _place(tree, field)
    return isinstance(holder, Mapping) and name in holder


def _set(tree: dict[str, Any], field: str, value: Any) -> None:
    section = field.rpartition(".")[0]
    if section and not tree.get(section):
        tree[section] = {}
    holder, name = _place(tree, field)
    if isinstance(holder, dict):  # validation refuses any other section
        holder[name] = value
