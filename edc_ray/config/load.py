"""YAML in and out, and `section.field=value` overrides."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from edc_ray.config.credentials import holds_secret
from edc_ray.config.dataset import INFERRED_FIELDS, KNOWN_FIELDS
from edc_ray.config.history import name_now, with_absent_values, with_names_of_now
from edc_ray.config.methods.registry import METHODS, adjusted, is_method, with_method
from edc_ray.config.recipes import RECIPES
from edc_ray.config.run import RunConfig
from edc_ray.config.yaml_values import NO_YAML, read_value, read_yaml, type_of_field, write_yaml
from edc_ray.errors import ConfigError

# Mappings by names that may hold dots: recover.iterations, my.module:network.
_FLAT_MAPPINGS = ("sweep.space.", "squeeze.weights.", "evaluate.learning_rates.")
_MAX_SHOWN = 300
_FEW = 20
_MISSING = "Field required"
# Side of images, in pixels, from which on the networks of ImageNet resemble those that a dataset needs.
_SMALLEST_OF_IMAGENET = 128


def load_recipe(name: str, overrides: Iterable[str] = ()) -> RunConfig:
    """The config of a recipe with overrides: texts `section.field=value`, whose values are YAML.

    Raises:
        ConfigError: unknown recipe, method or field, or a value of the wrong type.
    """
    return recipe_with_fields(name, dict(map(_parsed, overrides)))


def recipe_with_fields(name: str, fields: Mapping[str, Any]) -> RunConfig:
    """The config of a recipe for the `ipc` among the fields, with the others set by `with_fields`."""
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    ipc = fields.get("ipc")
    # `with_fields` refuses any other ipc, together with all else that is wrong.
    config = RECIPES[name](ipc) if type(ipc) is int and ipc > 0 else RECIPES[name]()
    return with_fields(config, fields)


def load_yaml(
    text: str, overrides: Iterable[str] = (), *, source: str = "config", stored: bool = False
) -> RunConfig:
    """The config in a YAML text, with overrides; fields that it leaves out have the values of its `method`.

    Raises a ConfigError as `load_recipe` does, or if the text is no YAML mapping.

    Args:
        text: names fields by their present or earlier names.
        overrides: as those of `load_recipe`.
        source: of the text, for messages.
        stored: the text is a run's own: fields that came later have their absent values, and a user's method
            is not imported.
    """
    tree = mapping_of(text, source)
    tree = with_absent_values(tree) if stored else _with_images(tree)
    tree = _with_networks(tree)
    stated = validated(tree)
    by_method = stated if stored and stated.method not in METHODS else with_method(stated, stated.method)
    base = by_method.model_dump(mode="json")
    for path, value in adjusted(by_method, fields_of(tree)).items():
        _set(base, path, value)
    return with_fields(validated(_merged(base, tree)), dict(map(_parsed, overrides)))


def mapping_of(text: str, source: str = "config") -> dict[str, Any]:
    """A YAML text as a mapping of sections with the present names of fields; a ConfigError if it is none."""
    try:
        tree = read_yaml(text, RunConfig)
    except NO_YAML as error:
        raise ConfigError(f"{source} is not YAML", found=str(error)) from error
    if not isinstance(tree, dict):
        found = {list: "a list", type(None): "nothing"}.get(type(tree), repr(tree))
        raise ConfigError(
            f"{source} holds no config",
            found=_shown(found),
            expected="sections, such as dataset: {name: mine}",
        )
    # All lines of a section may be comments.
    sections = {path.partition(".")[0] for path in field_paths() if "." in path}
    return with_names_of_now(
        {name: {} if part is None and name in sections else part for name, part in tree.items()}
    )


def _with_images(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """A file of a recipe's dataset, with what the recipe knows of its images."""
    section = tree.get("dataset")
    if not isinstance(section, Mapping) or str(section.get("name")) not in RECIPES:
        return tree
    recipe = RECIPES[str(section["name"])]().dataset.model_dump(mode="json")
    known = {name: recipe[name] for name in KNOWN_FIELDS}
    if "train" not in section:
        known |= {"train": recipe["train"], "val": recipe["val"]}
    return {**tree, "dataset": {**known, **section}}


def _with_networks(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """A file that names no observers or students, with those of the recipe that resembles its dataset."""
    sections = {name: tree.get(name) or {} for name in ("dataset", "squeeze", "evaluate")}
    if not all(isinstance(section, Mapping) for section in sections.values()):
        return tree
    side = sections["dataset"].get("image_size")
    small = not isinstance(side, int) or side < _SMALLEST_OF_IMAGENET
    name = str(sections["dataset"].get("name"))
    recipe = RECIPES[name if name in RECIPES else "cifar10" if small else "imagenet10"]()
    tree = {**tree, "evaluate": {"students": recipe.evaluate.students, **sections["evaluate"]}}
    tree = _with_observers_of_method(tree)
    if "observers" in (tree.get("squeeze") or {}):
        return tree
    method = str(tree.get("method", recipe.method))
    given = with_method(recipe, method if method in METHODS else recipe.method).squeeze
    return {**tree, "squeeze": {"observers": given.observers, **sections["squeeze"]}}


def _with_observers_of_method(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """A file that names no observers, with those of its method if that has any for the dataset."""
    squeeze = tree.get("squeeze") or {}
    if not isinstance(squeeze, Mapping) or "observers" in squeeze:
        return tree
    few = {name: tree[name] for name in ("method", "ipc", "dataset", "evaluate") if name in tree}
    try:
        stated = validated({**few, "squeeze": {"observers": ["-"]}})
    except ConfigError:
        return tree  # the caller validates the whole file
    given = with_method(stated, stated.method).squeeze
    if given.observers == stated.squeeze.observers:
        return tree
    # A method's pretrained observers come with its weights and without training.
    who = {name: getattr(given, name) for name in ("observers", "weights", "epochs")}
    return {**tree, "squeeze": {**who, **squeeze}}


def to_yaml(config: RunConfig) -> str:
    """YAML text from which `load_yaml` makes an equal config."""
    return write_yaml(config.model_dump(mode="json"))


def with_fields(config: RunConfig, fields: Mapping[str, Any]) -> RunConfig:
    """A copy of `config` with `{"section.field": value}` set and `validated`; a ConfigError if one is wrong.

    A `method` is applied first, for the `ipc` among the fields. The method may adjust other fields to the
    given ones (`registry.adjusted`).
    """
    fields = {name_now(path): value for path, value in fields.items()}
    if "method" in fields:
        if "ipc" in fields:
            config = validated({**config.model_dump(mode="json"), "ipc": fields["ipc"]})
        config = with_method(config, _known_method(fields.pop("method")))
    tree = config.model_dump(mode="json")
    if fields.get("dataset.train", config.dataset.train) != config.dataset.train:
        # Under the same name they are the same images in another place. Under another name they are others.
        others = fields.get("dataset.name", config.dataset.name) != config.dataset.name
        theirs = (*INFERRED_FIELDS, "max_per_class", "max_val_per_class") if others else ()
        for name in ("val", *theirs):
            tree["dataset"][name] = None
    for path, value in {**adjusted(config, fields), **fields}.items():
        _set(tree, path, value)
    return validated(tree)


def deviations_from_method(config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Fields whose value differs from the method's: field -> (value, the method's)."""
    by_method = with_method(config, config.method)
    own, given = (fields_of(one.model_dump(mode="json")) for one in (config, by_method))
    return {path: (value, given[path]) for path, value in own.items() if value != given[path]}


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
    """The error for an unknown name; suggests the nearest known one, in any case of letters."""
    known, name = list(known), _shown(name)
    if name in known:  # as the command line has it
        section, _, field = name.partition(".")
        return ConfigError(
            f"unknown {what} '{name}'",
            next=f"in a file it stands below its section: {{{section}: {{{field}: ...}}}}",
        )
    own = name.rpartition(".")[2]
    # A field under its own name in another section is nearer than any other field of the section.
    elsewhere = [path for path in known if "." in name and path.rpartition(".")[2] == own]
    near = _nearest(name, elsewhere or known, 0.5)
    if not near and "." not in name:
        near = next((path for path in known if path.rsplit(".", 1)[-1] == name), None)
    hint = f" Did you mean '{near}'?" if near else ""
    few = ", ".join(known) if len(known) <= _FEW else None
    is_field = what == "field" and not near
    return ConfigError(
        f"unknown {what} '{name}'.{hint}",
        expected=few,
        next="edc-ray show-config RECIPE shows all fields" if is_field else None,
    )


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


def fields_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`section.field`, or the name of a field outside sections -> value."""
    fields = dict[str, Any]()
    for name, value in tree.items():
        if isinstance(value, Mapping):
            fields |= {f"{name}.{field}": inner for field, inner in value.items()}
        else:
            fields[name] = value
    return fields


def _parsed(text: str) -> tuple[str, Any]:
    path, sign, value = text.partition("=")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ConfigError("an override is not UTF-8", found=ascii(text), next="rename the file or folder")
    if not sign or not path:
        shown = "(a URL with a secret)" if holds_secret(text) else text
        expected = f"{text}=VALUE" if text in field_paths() else "section.field=value"
        raise ConfigError(f"override '{shown}' is not understood", found=shown, expected=expected)
    try:
        return path, read_value(value, _type_of(name_now(path)))
    except NO_YAML as error:
        # A mistyped storage option or URL may hold a credential.
        found = None if path.startswith("storage.") or holds_secret(text) else value
        raise ConfigError(f"the value of override '{path}' is not YAML", found=found) from error


def _type_of(path: str) -> Any:
    """The type of the value of an override; a sweep gives a list of them."""
    swept = path.removeprefix("sweep.space.")
    return type_of_field(RunConfig, path) if swept == path else list[type_of_field(RunConfig, swept)]


def _set(tree: dict[str, Any], path: str, value: Any) -> None:
    known = field_paths()
    section, _, field = path.partition(".")
    # A key of a field whose value is a mapping may follow.
    name, _, key = field.partition(".")
    if path in known and not field:
        tree[path] = value
    elif path in known:
        tree[section][field] = value
    elif key and path.startswith(_FLAT_MAPPINGS):
        tree[section][name] = {**tree[section][name], key: value}
    elif key and path.startswith("storage.options."):
        tree[section][name] = _nested(tree[section][name], key, value)
    elif inner := [one.removeprefix(f"{path}.") for one in known if one.startswith(f"{path}.")]:
        few = ", ".join(inner[:3])
        raise ConfigError(f"'{path}' is a section", expected=f"{path}.FIELD=VALUE with a field such as {few}")
    else:
        raise unknown_name("field", path, known)


def _nested(options: Any, path: str, value: Any) -> dict[str, Any]:
    """The options with one set, whose dotted path leads into inner mappings."""
    name, _, rest = path.partition(".")
    options = options if isinstance(options, dict) else {}
    return {**options, name: _nested(options.get(name), rest, value) if rest else value}


def _explained(error: ValidationError) -> ConfigError:
    unknown, wrong = [], []
    for problem in error.errors():
        path = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            unknown.append(path)
        elif problem["type"] == "missing" and isinstance(last := problem["loc"][-1], int):
            message = f"Input should have {last + 1} values"
            wrong.append((path.rpartition(".")[0], message, problem["input"]))
        else:
            wrong.append((path, _in_our_words(problem), problem["input"]))
    if unknown:
        sections = [] if "." in unknown[0] else list(RunConfig.model_fields)
        return unknown_name("field", unknown[0], [*sections, *field_paths()])
    places = {problem["loc"][:3] for problem in error.errors()}
    if len(places) == 1 and next(iter(places))[:2] == ("squeeze", "weights"):
        return _wrong_weights(error)
    # What is missing may stand in a section that is wrong as a whole.
    wrong = [one for one in wrong if one[1] != _MISSING] or wrong
    if len(wrong) == 1 and wrong[0][0] and wrong[0][1] != _MISSING:
        path, message, value = wrong[0]
        choices = re.findall(r"'([^']+)'", message) if message.startswith("Input should be '") else []
        near = _nearest(value, choices, 0.4) if isinstance(value, str) else None
        return ConfigError(
            f"config field '{_shown(path)}' cannot be used",
            found=_shown(repr(value)),
            expected=_shown(message),
            next=f"did you mean '{near}'?" if near else None,
        )
    lines = "; ".join(f"{path}: {message}" if path else message for path, message, _ in wrong)
    return ConfigError("config cannot be used", found=lines)


def _in_our_words(problem: Mapping[str, Any]) -> str:
    """What pydantic says of a value, in the words of a config file."""
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "model_type" and len(problem["loc"]) == 1:
        fields = field_paths(type_of_field(RunConfig, ".".join(map(str, problem["loc"]))))
        return f"Input should be a section with fields such as {', '.join(fields[:3])}"
    if problem["type"] == "string_pattern_mismatch" and str(problem["loc"][-1]) == "name":
        return "Input should be made of letters of ASCII, digits and . _ -, and begin with a letter or digit"
    message = message.replace("valid tuple", "list").replace("valid dictionary", "mapping")
    return message.replace("Tuple should", "Input should").replace(" after validation", "")


def _nearest(given: str, known: Iterable[str], cutoff: float) -> str | None:
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[near[0]] if near else None


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _wrong_weights(error: ValidationError) -> ConfigError:
    """One error for weights: pydantic gives a reason for each of their forms."""
    problems = error.errors()
    field = ".".join(map(str, problems[0]["loc"][:3]))
    # Below the weights stands the form, and below that a field of a file.
    inside = [f"{one['loc'][4]}: {_in_our_words(one)}" for one in problems if len(one["loc"]) > 4]
    given = problems[0]["input"]
    near = _nearest(str(given), ("torchvision", "package"), 0.6)
    shown = repr(given) if isinstance(given, str) and not holds_secret(given) else type(given).__name__
    return ConfigError(
        f"config field '{field}' cannot be used",
        found="; ".join(inside) or shown,
        expected="torchvision, torchvision:LABEL, package, or {url: ..., sha256: 64 hexadecimal digits}",
        next=f"did you mean '{near}'?" if near and not inside else None,
    )
