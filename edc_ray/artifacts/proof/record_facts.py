"""Checks of `meta` and `dataset`, the free parts of a record or manifest.

Any JSON value may stand there. Only the values that a reader uses are checked, and only if they are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

_LEAST_STD = 1e-6  # pixels are divided by it
_MAX_EPOCHS = 2**20


def check_record_meta(meta: dict[str, Any]) -> None:
    """Refuse impossible facts of a unit.

    Raises:
        ValueError: the first of them.
    """
    for name, is_sound in _RECORD_FACTS.items():
        if name in meta and not is_sound(meta[name]):
            raise ValueError(f"{name} of a unit")


def check_stage_facts(meta: dict[str, Any], dataset: dict[str, Any]) -> None:
    """Refuse impossible facts of a stage.

    Raises:
        ValueError: the first of them.
    """
    names = dataset.get("class_names")
    if names is not None and not (isinstance(names, list) and all(isinstance(one, str) for one in names)):
        raise ValueError("class_names")
    for name in ("mean", "std"):
        if not _is_channel_values(meta.get(name), least=_LEAST_STD if name == "std" else -math.inf):
            raise ValueError(name)


def check_epochs(ranges: list[list[int]]) -> None:
    """Refuse units of labels that share an epoch.

    Raises:
        ValueError: the first of them.
    """
    ordered = sorted(ranges)
    for (_, last), (first, _) in pairwise(ordered):
        if first <= last:
            raise ValueError(f"epoch {first} of two units")


def _is_range(value: Any) -> bool:
    """First and last epoch."""
    return _are_counts(value, 2) and value[0] <= value[1] < _MAX_EPOCHS


def _is_hashes(value: Any) -> bool:
    """[label, ipc id, hash] of each image, none twice."""
    rows: list[Any] = value if isinstance(value, list) else [None]
    sound = all(
        isinstance(row, list) and _are_counts(row[:2], 2) and len(row) == 3 and isinstance(row[2], str)
        for row in rows
    )
    return sound and len({(row[0], row[1]) for row in rows}) == len(rows)


def _is_channel_values(value: Any, *, least: float) -> bool:
    return value is None or (
        isinstance(value, list)
        and all(type(one) in (int, float) and math.isfinite(one) and one >= least for one in value)
    )


def _are_counts(value: Any, number: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == number
        and all(type(one) is int and one >= 0 for one in value)
    )


_RECORD_FACTS: dict[str, Callable[[Any], bool]] = {"epochs": _is_range, "image_sha256": _is_hashes}
