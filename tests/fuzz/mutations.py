"""Changed copies of whole files: bits flipped, ends cut off, parts moved, values of JSON replaced."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

EVIL_VALUES: list[Any] = [
    None, True, -1, 0, 2**63, 10**400, 0.5, "", "../../secret", "/etc/passwd", "a\\b", "s3://other/x", "\0",
    [], [[[]]], {}, {"a": 1}, [0, 10**18], ["a"],
]  # fmt: skip
EVIL_TEXTS = ["NaN", "-Infinity", "1e400", "9" * 5000, "[" * 5000, '"\\ud800"']


def without_digest(whole: bytes) -> Any:
    """The tree of a record or manifest as the first runs wrote them, which stated no hash of themselves."""
    tree = json.loads(whole)
    tree.pop("sha256", None)
    return tree


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
def with_another_value(draw: st.DrawFn, whole: bytes) -> bytes:
    """JSON with one value replaced by one that does not belong there."""
    tree = without_digest(whole)
    places = list(_places(tree))
    holder, key = places[draw(st.integers(0, len(places) - 1))]
    if draw(st.booleans()):
        holder[key] = draw(st.sampled_from(EVIL_VALUES))
        return json.dumps(tree).encode()
    holder[key] = "@"
    return json.dumps(tree).replace('"@"', draw(st.sampled_from(EVIL_TEXTS))).encode()


def _places(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)
