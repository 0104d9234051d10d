from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, Field

from edc_ray.config.yaml_values import NO_YAML, read_value, read_yaml, type_of_field, write_yaml

Text = Annotated[str, Field(min_length=1)]


class Inner(BaseModel):
    names: tuple[str, ...] = ()
    rates: dict[str, float] = {}
    texts: dict[str, Text] = {}
    sizes: tuple[int, ...] | None = None
    mode: Literal["no", "yes"] = "no"


class Outer(BaseModel):
    name: Text = "x"
    url: str | None = None
    ipc: int = 1
    inner: Inner = Inner()


@pytest.mark.parametrize(
    "text",
    ["2026-11-26", "010", "no", "1.10", "/data/a #1", "1:30", "0x1F", "~x", "a: b", "{x", "", "[", "1e3"],
)
@pytest.mark.parametrize("wanted", [str, Text, str | None])
def test_a_field_that_wants_text_gets_what_was_typed(text: str, wanted: Any) -> None:
    expected = None if text == "" and wanted == (str | None) else text
    assert read_value(text, wanted) == expected


@pytest.mark.parametrize(
    ("text", "wanted", "value"),
    [
        ("'no'", str, "no"),
        ('"a # b"', str, "a # b"),
        ("null", str | None, None),
        ("null", str, "null"),
        ("no", Literal["no", "yes"], "no"),
        ("010", int, 10),
        ("1e-3", float, 0.001),
        ("-.5", float, -0.5),
        ("true", bool, True),
        ("resnet18", tuple[str, ...], ["resnet18"]),
        ("[010, no, 1.10, 2026-11-26]", tuple[str, ...], ["010", "no", "1.10", "2026-11-26"]),
        ("null", tuple[str, ...] | None, None),
        ("8", tuple[int, ...] | None, [8]),
        ("8, 010", tuple[int, ...] | None, [8, 10]),
        ("(a, b c)", tuple[str, ...], ["a", "b c"]),
        ("'b,c'", tuple[str, ...], ["b,c"]),
        ("'it' and 'that'", str, "'it' and 'that'"),
        ("1,2", float, "1,2"),
        ("{a: 010}", dict[str, str], {"a": "010"}),
        ("[1, 2.5, x, true, null]", Any, [1, 2.5, "x", True, None]),
        (".inf", float, float("inf")),
    ],
)
def test_other_fields_get_yaml(text: str, wanted: Any, value: Any) -> None:
    found = read_value(text, wanted)
    assert found == value
    assert type(found) is type(value)


def test_a_file_is_read_by_the_types_of_its_fields() -> None:
    text = """
name: 2026-11-26
url: null
ipc: 010
unknown: 010
inner: {names: [010, no], rates: {a: 1e-3}, texts: {b: 1.10}, mode: no}
"""
    assert read_yaml(text, Outer) == {
        "name": "2026-11-26",
        "url": None,
        "ipc": 10,
        "unknown": "010",
        "inner": {"names": ["010", "no"], "rates": {"a": 0.001}, "texts": {"b": "1.10"}, "mode": "no"},
    }


@pytest.mark.parametrize(
    ("path", "wanted"),
    [("name", Text), ("inner.names", tuple[str, ...]), ("inner.rates.a", float), ("none.such", Any)],
)
def test_the_type_of_a_field_is_found_by_its_path(path: str, wanted: Any) -> None:
    if path == "name":
        wanted = str  # pydantic keeps the annotation's constraints apart
    assert type_of_field(Outer, path) == wanted


TREE = {
    "a": ["010", "09", "no", "1e3", "1.10", "2026-11-26", "1:30", "~", "", "null", "0x1", "a # b", "x\ny"]
}


def test_what_is_written_is_read_again_with_and_without_types() -> None:
    tree = {**TREE, "n": [1, -2.5, 1e-9, 1e20, True, None, float("inf")]}
    assert read_yaml(write_yaml(tree)) == tree
    assert yaml.safe_load(write_yaml(TREE)) == TREE


@pytest.mark.parametrize(
    "text",
    [
        "a: [1",
        "a: &a [*a]",
        "a: &a [x, x]\nb: &b [*a, *a]\n" + "".join(f"c{n}: &c{n} [{'*b, ' * 99}*b]\n" for n in range(800)),
        "!!python/object:os.system x",
        "a: !!int x",
    ],
)
def test_what_is_no_yaml_is_refused(text: str) -> None:
    with pytest.raises(NO_YAML):
        read_yaml(text)
