"""YAML as people mean it: a field that wants text gets the text that was typed, and numbers are decimal.

YAML 1.1, which PyYAML reads, takes 010 for 8, 2026-11-26 for a date, `no` for false and 1:30 for 90.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, JsonValue

_MAX_NODES = 200_000
"""Values of a text. An alias costs a few bytes and stands for what it names: nine of nine of nine ..."""

# ValueError and OverflowError: a number that is none. The others: hostile files.
NO_YAML = (
    yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError, OverflowError
)  # fmt: skip

_QUOTED = re.compile(r"""'([^']|'')*'|"([^"\\]|\\.)*\"""", re.DOTALL)
_PLAIN_FORMS: dict[str, tuple[str, str]] = {
    "tag:yaml.org,2002:null": (r"(~|null|Null|NULL|)$", "~nN\0"),
    "tag:yaml.org,2002:bool": (r"(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+$", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
        "-+0123456789.",
    ),
    "tag:yaml.org,2002:merge": (r"<<$", "<"),
}


class _Loader(yaml.SafeLoader):
    """Knows the plain forms of YAML 1.2 only."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


class _Dumper(yaml.SafeDumper):
    """Quotes every text that either version of YAML takes for something else."""


for _tag, (_form, _first) in _PLAIN_FORMS.items():
    _firsts = ["" if sign == "\0" else sign for sign in _first]
    _Loader.add_implicit_resolver(_tag, re.compile(_form), _firsts)
    _Dumper.add_implicit_resolver(_tag, re.compile(_form), _firsts)


def _decimal(loader: yaml.SafeLoader, node: Any) -> int:
    return int(loader.construct_scalar(node))


def _number(loader: yaml.SafeLoader, node: Any) -> float:
    return float(loader.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def read_yaml(text: str, wanted: Any = Any) -> Any:
    """The value of a YAML text.

    Args:
        text: one document.
        wanted: the type of the value, such as a pydantic model. Where it wants text, a plain `no`, `010` or
            `1.10` is that text.

    Raises:
        One of NO_YAML: the text is no YAML, or its aliases stand for too many values.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _written_out(node, {}) > _MAX_NODES:
            raise yaml.YAMLError(f"aliases that stand for more than {_MAX_NODES} values")
        return loader.construct_document(_as_wanted(node, wanted, loader, {}))
    finally:
        loader.dispose()


def read_value(text: str, wanted: Any) -> Any:
    """The value of a field as it was typed in a command line: `field=text`.

    Args:
        text: YAML. A field that wants text gets it as it is, unless it is quoted or null. A field that wants
            a list takes one without brackets, too: values between commas.
        wanted: the type of the field.

    Raises:
        As `read_yaml`.
    """
    text = text.removesuffix("\n").removesuffix("\n...")  # as libraries end a dumped document
    stripped = text.strip()
    quoted = _QUOTED.fullmatch(stripped)
    is_null = re.match(_PLAIN_FORMS["tag:yaml.org,2002:null"][0], stripped)
    if _wants_text(wanted) and not quoted:
        return None if is_null and _takes_none(wanted) else text
    items = _arms(wanted, _is_sequence)
    if items and not is_null and not stripped.startswith(("[", "{")):
        parts = [text] if quoted else stripped.removeprefix("(").removesuffix(")").split(",")
        return [read_value(part.strip(), _item_type(items[0])) for part in parts]
    return read_yaml(text, wanted)


def write_yaml(tree: Mapping[str, Any]) -> str:
    """The text of a mapping, from which `read_yaml` makes an equal one."""
    return yaml.dump(dict(tree), Dumper=_Dumper, sort_keys=False, width=110)


def _written_out(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a tree has with every alias written out; infinite where one names its own whole."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")
        parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


def _as_wanted(node: yaml.Node, wanted: Any, loader: _Loader, known: dict[int, Any]) -> yaml.Node:
    """The node with plain scalars as text where the type wants text, and in a list where it wants a list.

    `known`: id of a node -> itself, which keeps the id, and its result.
    """
    if id(node) in known:  # an alias stands for one value, whose first place counts
        return known[id(node)][1]
    items = _arms(wanted, _is_sequence)
    is_null = node.tag == "tag:yaml.org,2002:null"
    listed = _listed(node, loader) if isinstance(node, yaml.ScalarNode) and items and not is_null else node
    known[id(node)] = node, listed
    if isinstance(listed, yaml.ScalarNode):
        is_text = _wants_text(wanted) and not (is_null and _takes_none(wanted))
        if listed.style is None and (is_text or (_takes_any(wanted) and _changes_as_number(listed))):
            listed.tag = "tag:yaml.org,2002:str"
    elif isinstance(listed, yaml.SequenceNode):
        item = _item_type(items[0]) if items else Any
        listed.value = [_as_wanted(one, item, loader, known) for one in listed.value]
    elif isinstance(listed, yaml.MappingNode):
        _refuse_twice(listed)
        listed.value = [
            (key, _as_wanted(value, _type_below(wanted, str(key.value)), loader, known))
            for key, value in listed.value
        ]
    return listed


def _takes_any(wanted: Any) -> bool:
    return wanted is Any or wanted is JsonValue


def _changes_as_number(node: yaml.ScalarNode) -> bool:
    """Whether a plain number would lose what was typed: zeros in front of an id, all of it to infinity."""
    if node.tag == "tag:yaml.org,2002:int":
        return bool(re.match(r"[-+]?0\d", node.value))
    is_float = node.tag == "tag:yaml.org,2002:float" and node.value[-1].isdigit()
    return is_float and math.isinf(float(node.value))


def _listed(node: yaml.ScalarNode, loader: _Loader) -> yaml.SequenceNode:
    """A list of a single value, or of those between the commas of a plain one."""
    texts = [node.value] if node.style else [part.strip() for part in node.value.split(",")]
    marks = node.start_mark, node.end_mark
    parts = [
        yaml.ScalarNode(
            loader.resolve(yaml.ScalarNode, text, (not node.style, True)), text, *marks, node.style
        )
        for text in texts
    ]
    return yaml.SequenceNode("tag:yaml.org,2002:seq", parts, *marks)


def _refuse_twice(node: yaml.MappingNode) -> None:
    lines: dict[Any, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise yaml.YAMLError(f"'{key.value}' stands twice, in lines {lines[key.value]} and {line}")
            lines[key.value] = line


def type_of_field(model: type[BaseModel], path: str) -> Any:
    """The type of the field at a dotted path, below a mapping too; Any where there is none."""
    wanted: Any = model
    for name in path.split("."):
        wanted = _type_below(wanted, name)
    return wanted


def _type_below(wanted: Any, name: str) -> Any:
    for arm in _arms(wanted, lambda kind: True):
        if isinstance(arm, type) and issubclass(arm, BaseModel) and name in arm.model_fields:
            return arm.model_fields[name].annotation
        if get_origin(arm) in (dict, Mapping):
            return get_args(arm)[1]
    return Any


def _arms(wanted: Any, fits: Callable[[Any], bool]) -> list[Any]:
    """The types of a union, or the type itself, without annotations, that fit."""
    origin = get_origin(wanted)
    if origin is Annotated:
        return _arms(get_args(wanted)[0], fits)
    if origin in (Union, UnionType):
        return [arm for one in get_args(wanted) for arm in _arms(one, fits)]
    return [wanted] if fits(wanted) else []


def _is_sequence(kind: Any) -> bool:
    return get_origin(kind) in (list, tuple)


def _item_type(sequence: Any) -> Any:
    return get_args(sequence)[0]


def _takes_none(wanted: Any) -> bool:
    return type(None) in _arms(wanted, lambda kind: True)


def _wants_text(wanted: Any) -> bool:
    """Whether every value of the type is text, or none."""

    def is_text(kind: Any) -> bool:
        if get_origin(kind) is Literal:
            return all(isinstance(value, str) for value in get_args(kind))
        return isinstance(kind, type) and issubclass(kind, str)

    kinds = [kind for kind in _arms(wanted, lambda kind: True) if kind is not type(None)]
    return bool(kinds) and all(map(is_text, kinds))
