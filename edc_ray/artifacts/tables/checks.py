"""Checks of a table's columns before anything uses them. N rows, K classes.

Types come first, because a column of the right name may hold anything. Then values: otherwise a label without
a class, or an image that is there twice, would be found late or never.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from edc_ray.errors import ArtifactError

PREFIX = "edc_ray."
NEWEST_VERSION = 3
"""Tables have version 1. Labels have version 2 if views are more than cropped, flipped and mixed, and 3 if a
codec other than fp16 made the logits."""
_KINDS = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_string,
    pa.types.is_binary,
    pa.types.is_struct,
    pa.types.is_fixed_size_list,
)


def check_table(table: pa.Table, columns: Sequence[str], *, url: str) -> tuple[str, ...]:
    """Class names of a table that this program wrote.

    Raises:
        ArtifactError: not a table of ours, a newer version, or a column is missing; names `url`.
    """
    metadata = table.schema.metadata or {}
    try:
        version = int(metadata[f"{PREFIX}schema_version".encode()])
        class_names = tuple(json.loads(metadata[f"{PREFIX}class_names".encode()]))
        if not all(isinstance(name, str) for name in class_names):
            raise TypeError("a class name that is no text")
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{url} is not a table of edc-ray", expected="its schema metadata") from error
    if version > NEWEST_VERSION:
        found, expected = f"schema version {version}", f"at most {NEWEST_VERSION}"
        raise ArtifactError(
            f"{url} is of a newer edc-ray", found=found, expected=expected, next="upgrade edc-ray"
        )
    if len(set(table.column_names)) < len(table.column_names):
        raise ArtifactError(f"{url} holds columns of one name", found=table.column_names)
    if missing := [name for name in columns if name not in table.column_names]:
        raise ArtifactError(f"{url} lacks columns", found=table.column_names, expected=missing)
    return class_names


def refuse_other_types(
    table: pa.Table, types: Mapping[str, pa.DataType], *, url: str, nullable: Collection[str] = ()
) -> None:
    """Refuse columns of other types than these, or with nulls, unless they are `nullable`.

    Wider or narrower numbers pass; missing columns too. The ArtifactError names `url`.
    """
    for name, expected in types.items():
        if name not in table.column_names:
            continue
        column = table.column(name)
        if not _is_of(column.type, expected):
            raise _damaged(url, name, column.type, expected)
        if column.null_count and name not in nullable:
            raise _damaged(url, name, f"{column.null_count} nulls", "a value in each row")


def check_slots(
    url: str, labels: np.ndarray, ipc_ids: np.ndarray, num_classes: int, *, prefix: str = ""
) -> None:
    """Refuse a label that no class has, or a negative ipc id; `prefix`: of the columns' names."""
    _within(url, f"{prefix}label", labels, 0, num_classes - 1)
    _within(url, f"{prefix}ipc_id", ipc_ids, 0, None)


def check_views(url: str, columns: Mapping[str, np.ndarray], num_classes: int, mixes: Sequence[str]) -> None:
    """Refuse columns of `schema.LabelRows` with unknown classes, or mixed in an unknown way."""
    for prefix in ("", "partner_"):
        check_slots(url, columns[f"{prefix}label"], columns[f"{prefix}ipc_id"], num_classes, prefix=prefix)
    _within(url, "epoch", columns["epoch"], 0, None)
    _within(url, "lam", columns["lam"], 0, 1)
    if unknown := sorted(set(np.unique(columns["mix"]).tolist()) - set(mixes)):
        raise _damaged(url, "mix", unknown[:3], f"one of {', '.join(mixes)}")


def refuse_repeated(url: str, columns: Mapping[str, np.ndarray]) -> None:
    """Refuse two rows that agree in all these columns, int64 [N]; the ArtifactError names the first."""
    rows = np.stack(list(columns.values()), axis=1)
    ordered = rows[np.lexsort(rows.T)]
    twice = np.flatnonzero((ordered[1:] == ordered[:-1]).all(axis=1))
    if len(twice):
        named = ", ".join(
            f"{name} {value}" for name, value in zip(columns, ordered[twice[0]].tolist(), strict=True)
        )
        raise ArtifactError(f"{url} holds rows twice", found=named, expected="each once")


def _is_of(kind: pa.DataType, expected: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_dictionary(expected):
        expected = expected.value_type
    if not any(is_kind(kind) and is_kind(expected) for is_kind in _KINDS):
        return False
    if pa.types.is_fixed_size_list(kind):
        return _is_of(kind.value_type, expected.value_type)
    if pa.types.is_struct(expected):
        return all(
            kind.get_field_index(field.name) >= 0 and _is_of(kind.field(field.name).type, field.type)
            for field in expected
            if field.name == "bytes"
        )
    return True


def _within(url: str, name: str, values: np.ndarray, least: int, most: int | None) -> None:
    top = np.inf if most is None else most
    wrong = ~((values >= least) & (values <= top))  # a NaN is neither
    if wrong.any():
        expected = f"at least {least}" if most is None else f"{least} to {most}"
        raise _damaged(url, name, values[wrong][0], expected)


def _damaged(url: str, name: str, found: object, expected: object) -> ArtifactError:
    return ArtifactError(f"{url}: column {name} is damaged", found=found, expected=expected)
