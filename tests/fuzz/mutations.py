"""Changed copies of whole files: bits flipped, ends cut off, parts moved, values of JSON replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

EVIL_VALUES: list[Any] = [
    None, True, -1, 0, 2**63, 10**400, 0.5, "", "../../secret", "/etc/passwd", "a\\b", "s3://other/x", "\0",
    [], [[[]]], {}, {"a": 1}, [0, 10**18], ["a"],
]  # fmt: skip
EVIL_CELLS: list[Any] = [
    None, -1, 0, 1, 3, 2**15, 2**31 - 1, 2**40, float("nan"), float("inf"), -1e30, 0.25, "", "cutmix", "cat",
    b"", b"\x89PNG", True, False, [], [1.0], {"bytes": b""},
]  # fmt: skip
EVIL_METADATA = [b"", b"[]", b"null", b'["cat"]', b'["a", "a", "a"]', b"fp16", b"q4", b"1", b"-1", b"3"]
EVIL_TEXTS = ["NaN", "-Infinity", "1e400", "9" * 5000, "[" * 5000, '"\\ud800"']


def without_digest(whole: bytes) -> Any:
    """The tree of a record or manifest as the first runs wrote them, which stated no hash of themselves."""
    tree = json.loads(whole)
    tree.pop("sha256", None)
    return tree


def vouched_for(files: Mapping[str, bytes], path: str, data: bytes) -> dict[str, bytes]:
    """A table of a set and the manifest of its stage, which states the table's hash."""
    folder, name = path.split("/")
    manifest = without_digest(files[f"{folder}/manifest.json"])
    for record in manifest["records"]:
        for shard in record["shards"]:
            if shard["path"] == name:
                shard |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return {path: data, f"{folder}/manifest.json": json.dumps(manifest).encode()}


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A copy with one to three damages."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["flip", "cut", "fill", "splice", "ends"])):
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[place:]
            case "fill":
                data[place : place + 8] = draw(st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\x7f\xff\xff\xff"]))
            case "splice":
                start = draw(st.integers(0, max(0, len(data) - 1)))
                data[place:place] = data[start : start + draw(st.integers(1, 64))]
            case "ends":  # lengths and offsets stand at the ends of many formats
                end = draw(st.integers(1, 16))
                data[-end:] = draw(st.binary(min_size=end, max_size=end))
    return bytes(data)


@st.composite
def with_another_value(draw: st.DrawFn, whole: bytes, *, forged: bool = True) -> bytes:
    """JSON with one value replaced by a wrong one; `forged`: its hash is made to fit."""
    tree = without_digest(whole) if forged else json.loads(whole)
    places = list(_places(tree))
    holder, key = places[draw(st.integers(0, len(places) - 1))]
    if draw(st.booleans()):
        holder[key] = draw(st.sampled_from(EVIL_VALUES))
        return json.dumps(tree).encode()
    holder[key] = "@"
    return json.dumps(tree).replace('"@"', draw(st.sampled_from(EVIL_TEXTS))).encode()


@st.composite
def with_another_cell(draw: st.DrawFn, whole: bytes) -> bytes:
    """A table of which one cell, a whole column or a field of its metadata is another."""
    table = pq.read_table(pa.BufferReader(whole))
    place = draw(st.integers(0, table.num_columns - 1))
    values = table.column(place).to_pylist()
    kind, value = table.schema.field(place).type, draw(st.sampled_from(EVIL_CELLS))
    row = draw(st.integers(0, len(values) - 1))
    match draw(st.sampled_from(["cell", "column", "drop", "rename", "metadata", "rows"])):
        case "cell" if isinstance(values[row], list):
            values[row][draw(st.integers(0, len(values[row]) - 1))] = value
        case "cell" if isinstance(values[row], dict):
            values[row] = values[row] | {"bytes": value}
        case "cell":
            values[row] = value
        case "column":
            values, kind = [value] * len(values), None
        case "drop":
            return _as_file(table.drop_columns([table.column_names[place]]))
        case "rename":
            return _as_file(table.rename_columns([*table.column_names[:-1], table.column_names[place]]))
        case "metadata":
            metadata = dict(table.schema.metadata)
            key = draw(st.sampled_from(sorted(metadata)))
            return _as_file(
                table.replace_schema_metadata(metadata | {key: draw(st.sampled_from(EVIL_METADATA))})
            )
        case "rows":
            rows = st.lists(st.integers(0, len(values) - 1), max_size=20)
            return _as_file(table.take(pa.array(draw(rows), pa.int64())))
    try:
        column = pa.array(values, kind)
    except (pa.ArrowException, OverflowError):
        column = pa.array([None] * len(values), kind)
    return _as_file(table.set_column(place, table.column_names[place], column))


def _as_file(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=max(1, table.num_rows // 2))
    return sink.getvalue().to_pybytes()


def _places(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)
