"""YAML in and out, and `section.field=value` overrides."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from edc_ray.config.credentials import holds_secret
from edc_ray.config.dataset import INFERRED_FIELDS
from edc_ray.config.history import name_now, with_absent_values, with_names_of_now
from edc_ray.config.methods.registry import METHODS, adjusted, is_method, with_method
from edc_ray.config.recipes import RECIPES
from edc_ray.config.run import RunConfig
from edc_ray.errors import ConfigError

# Mappings by names that may hold dots: recover.iterations, my.module:network.
_FLAT_MAPPINGS = ("sweep.space.", "squeeze.weights.", "evaluate.learning_rates.")


# An alias costs a few bytes and stands for whatever it names: nine of nine of nine ... fill any memory.
_MAX_NODES = 200_000
_MAX_SHOWN = 300


class _Loader(yaml.SafeLoader):
    """A safe loader that reads 1e-3 as a number, as everybody but YAML 1.1 does, and no alias bomb."""

    def get_single_node(self) -> Any:
        """See PyYAML.

        Raises:
            yaml.YAMLError: no YAML, or more than _MAX_NODES values with every alias written out.
        """
        node = super().get_single_node()
        if node is not None and _written_out(node, {}) > _MAX_NODES:
            raise yaml.YAMLError(f"aliases that stand for more than {_MAX_NODES} values")
        return node


# ValueError: a date that is none, such as 2024-13-45. The others: hostile files.
_NO_YAML = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError, OverflowError)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that `_Loader` would take for a number."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
    )


def _written_out(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a tree has with every alias written out; infinite where one names its own whole."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")
        parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


def load_recipe(name: str, overrides: Iterable[str] = ()) -> RunConfig:
    """The config of a recipe with overrides applied.

    Args:
        name: one of RECIPES.
        overrides: texts `section.field=value`; the value is YAML. For the rest see `recipe_with_fields`.

    Raises:
        ConfigError: unknown recipe, method or field, or a value of the wrong type.
    """
    return recipe_with_fields(name, dict(_parsed(text) for text in overrides))


def recipe_with_fields(name: str, fields: Mapping[str, Any]) -> RunConfig:
    """The config of a recipe with `{"section.field": value}` set.

    `ipc` is given to the recipe, then `method` applies that method, then the other fields are set.

    Raises:
        ConfigError: as `load_recipe`.
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    ipc = fields.get("ipc")
    # An ipc that is none is told together with what else is wrong.
    config = RECIPES[name](ipc) if type(ipc) is int and ipc > 0 else RECIPES[name]()
    return with_fields(config, fields)


def load_yaml(
    text: str, overrides: Iterable[str] = (), *, source: str = "config", stored: bool = False
) -> RunConfig:
    """The config in a YAML text, with overrides applied.

    What the text leaves out has the values of its `method`; what it states stands, as in a file of
    `show-config`, which states everything.

    Args:
        text: with the names of fields of now, or earlier ones.
        overrides: as those of `load_recipe`.
        source: of the text, for messages.
        stored: the text is a run's own, in which fields that came later have their absent values. A user's
            method that it names is not imported.

    Raises:
        ConfigError: as `load_recipe` does; or the text is no YAML mapping.
    """
    tree = mapping_of(text, source)
    if stored:
        tree = with_absent_values(tree)
    tree = _with_observers_of_method(tree)
    stated = validated(tree)
    by_method = stated if stored and stated.method not in METHODS else with_method(stated, stated.method)
    base = by_method.model_dump(mode="json")
    for path, value in adjusted(by_method, _fields_of(tree)).items():
        _set(base, path, value)
    return _override(validated(_merged(base, tree)), overrides)


def mapping_of(text: str, source: str = "config") -> dict[str, Any]:
    """A YAML text as a mapping of sections, its fields by their names of now.

    Raises:
        ConfigError: it is none.
    """
    try:
        tree = yaml.load(text, Loader=_Loader)
    except _NO_YAML as error:
        raise ConfigError(f"{source} is not YAML", found=str(error)) from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{source} holds no config", found=type(tree).__name__, expected="a mapping of sections"
        )
    return with_names_of_now(tree)


def _with_observers_of_method(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """A file that names no observers, with those of its method for its dataset where the method has any."""
    squeeze = tree.get("squeeze") or {}
    if not isinstance(squeeze, Mapping) or "observers" in squeeze:
        return tree
    few = {name: tree[name] for name in ("method", "ipc", "dataset", "evaluate") if name in tree}
    try:
        stated = validated({**few, "squeeze": {"observers": ["-"]}})
    except ConfigError:
        return tree  # what is wrong is told of the whole file
    given = with_method(stated, stated.method).squeeze
    if given.observers == stated.squeeze.observers:
        return tree
    # Whether observers are trained at all is part of who they are.
    who = {name: getattr(given, name) for name in ("observers", "weights", "epochs")}
    return {**tree, "squeeze": {**who, **squeeze}}


def to_yaml(config: RunConfig) -> str:
    """YAML text from which `load_yaml` makes an equal config."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, width=110)


def with_fields(config: RunConfig, fields: Mapping[str, Any]) -> RunConfig:
    """A copy of `config` with `{"section.field": value}` set and validated.

    `method` is applied before the other fields, for the `ipc` among them.

    With the fields come those that the method adjusts to them (`registry.adjusted`).

    Raises:
        ConfigError: unknown method or field, or a value of the wrong type.
    """
    fields = {name_now(path): value for path, value in fields.items()}
    if "method" in fields:
        if "ipc" in fields:
            config = validated({**config.model_dump(mode="json"), "ipc": fields["ipc"]})
        config = with_method(config, _known_method(fields.pop("method")))
    tree = config.model_dump(mode="json")
    if fields.get("dataset.train", config.dataset.train) != config.dataset.train:
        # Other images: what the recipe knew of the old ones does not hold for them.
        for name in (*INFERRED_FIELDS, "val", "max_per_class", "max_val_per_class"):
            tree["dataset"][name] = None
    for path, value in {**adjusted(config, fields), **fields}.items():
        _set(tree, path, value)
    return validated(tree)


def deviations_from_method(config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Fields whose value is not the one that the config's method gives: field -> (value, the method's)."""
    own, given = config.model_dump(mode="json"), with_method(config, config.method).model_dump(mode="json")
    paths = [path.split(".") for path in field_paths()]
    pairs = {".".join(path): (_value_at(own, path), _value_at(given, path)) for path in paths}
    return {path: (value, method) for path, (value, method) in pairs.items() if value != method}


def validated(tree: Mapping[str, Any]) -> RunConfig:
    """RunConfig of a plain mapping; every problem becomes one ConfigError."""
    try:
        config = RunConfig.model_validate(dict(tree))
    except ValidationError as error:
        raise _explained(error) from error
    _known_method(config.method)
    return config


def field_paths(model: type[BaseModel] = RunConfig, prefix: str = "") -> list[str]:
    """All dotted field names of a config, depth first."""
    paths = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            paths += field_paths(kind, f"{prefix}{name}.")
        else:
            paths.append(prefix + name)
    return paths


def unknown_name(what: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not among the known ones; says which is nearest."""
    known, name = list(known), _shown(name)
    own = name.rpartition(".")[2]
    # A field under its own name in another section is nearer than any other field of the section.
    elsewhere = [path for path in known if "." in name and path.rpartition(".")[2] == own]
    near = difflib.get_close_matches(name, elsewhere or known, n=1, cutoff=0.5)
    if not near and "." not in name:
        near = [path for path in known if path.rsplit(".", 1)[-1] == name][:1]
    hint = f" Did you mean '{near[0]}'?" if near else ""
    few = known if len(known) <= 12 else None
    return ConfigError(f"unknown {what} '{name}'.{hint}", expected=", ".join(few) if few else None)


def _override(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    return with_fields(config, dict(_parsed(text) for text in overrides))


def _known_method(name: Any) -> str:
    if not is_method(str(name)):
        raise unknown_name("method", str(name), METHODS)
    return str(name)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, section by section."""
    merged = dict(base)
    for name, value in over.items():
        is_section = name in RunConfig.model_fields and isinstance(base.get(name), dict)
        merged[name] = {**base[name], **value} if is_section and isinstance(value, Mapping) else value
    return merged


def _fields_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`section.field` -> value of a config's mapping."""
    sections = {name: section for name, section in tree.items() if isinstance(section, Mapping)}
    return {
        f"{name}.{field}": value for name, section in sections.items() for field, value in section.items()
    }


def _value_at(tree: Mapping[str, Any], path: list[str]) -> Any:
    value: Any = tree
    for name in path:
        value = value[name]
    return value


def _parsed(text: str) -> tuple[str, Any]:
    path, sign, value = text.partition("=")
    if not sign or not path:
        shown = "(a URL with a secret)" if holds_secret(text) else text
        raise ConfigError(
            f"override '{shown}' is not understood", expected="section.field=value", found=shown
        )
    try:
        return path, yaml.load(value, Loader=_Loader)
    except _NO_YAML as error:
        # A slip in a storage option or a URL may hold a credential.
        found = None if path.startswith("storage.") or holds_secret(text) else value
        raise ConfigError(f"the value of override '{path}' is not YAML", found=found) from error


def _set(tree: dict[str, Any], path: str, value: Any) -> None:
    known = field_paths()
    if path not in known:
        # A field below one whose value is a mapping.
        parent, _, key = path.partition(".")
        section, _, rest = key.partition(".")
        if rest and path.startswith(_FLAT_MAPPINGS):
            tree[parent][section] = {**tree[parent][section], rest: value}
            return
        if rest and path.startswith("storage.options."):
            tree[parent][section] = _nested(tree[parent][section], rest, value)
            return
        raise unknown_name("field", path, known)
    *sections, name = path.split(".")
    for section in sections:
        tree = tree[section]
    tree[name] = value


def _nested(options: Any, path: str, value: Any) -> dict[str, Any]:
    """The options with the one at a dotted path set, inside those that its first words name."""
    name, _, rest = path.partition(".")
    options = options if isinstance(options, dict) else {}
    return {**options, name: _nested(options.get(name), rest, value) if rest else value}


def _explained(error: ValidationError) -> ConfigError:
    unknown, wrong = [], []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            unknown.append(path)
        else:
            wrong.append((path, problem["msg"].removeprefix("Value error, "), problem["input"]))
    if unknown:
        return unknown_name("field", unknown[0], field_paths())
    forms = {tuple(path.split(".")[:3]) for path, _, _ in wrong}
    if len(forms) == 1 and (form := next(iter(forms)))[:2] == ("squeeze", "weights"):
        return _wrong_weights(".".join(form), wrong)
    if len(wrong) == 1 and wrong[0][0]:
        path, message, value = wrong[0]
        shown = _shown(repr(value))
        known = re.findall(r"'([^']+)'", message) if message.startswith("Input should be '") else []
        if known and isinstance(value, str):
            near = difflib.get_close_matches(value, known, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else None
            return ConfigError(
                f"config field '{path}' cannot be used",
                found=shown,
                expected=message,
                next=hint,
            )
        return ConfigError(
            f"config field '{_shown(path)}' cannot be used",
            found=shown,
            expected=_shown(message),
        )
    lines = "; ".join(f"{path}: {message}" if path else message for path, message, _ in wrong)
    return ConfigError("config cannot be used", found=lines)


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _wrong_weights(field: str, wrong: list[tuple[str, str, Any]]) -> ConfigError:
    """Weights have several forms, each of which gives a reason of its own."""
    inside = [f"{path.rsplit('.', 1)[1]}: {message}" for path, message, _ in wrong if path.count(".") > 3]
    given = wrong[0][2]
    shown = repr(given) if isinstance(given, str) and not holds_secret(given) else type(given).__name__
    near = difflib.get_close_matches(str(given), ("torchvision", "package"), n=1, cutoff=0.6)
    return ConfigError(
        f"config field '{field}' cannot be used",
        found="; ".join(inside) or shown,
        expected="torchvision, torchvision:LABEL, package, or {url: ..., sha256: 64 hexadecimal digits}",
        next=f"did you mean '{near[0]}'?" if near and not inside else None,
    )
