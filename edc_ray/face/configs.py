"""Configs by name: recipes, methods, files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edc_ray.artifacts.storage.layout import RUN_CONFIG, RUN_DATA
from edc_ray.artifacts.storage.limits import MAX_CONFIG_BYTES
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.load import field_paths, load_recipe, load_yaml, recipe_with_fields, with_fields
from edc_ray.config.methods.registry import METHODS
from edc_ray.config.recipes import RECIPES
from edc_ray.config.run import RunConfig
from edc_ray.errors import ArtifactError, ConfigError

_WITH_FIELDS = ("run", "stage", "sweep", "show-config")


def recipe(
    name: str, *, ipc: int | None = None, method: str | None = None, seed: int | None = None, **fields: Any
) -> RunConfig:
    """The config of a recipe.

    Args:
        name: one of `recipes()`.
        ipc: condensed images per class; None: the recipe's own number.
        method: one of `methods()`; None: edc.
        seed: root of every draw; None: 0.
        fields: other fields, as `**{"recover.iterations": 100}` or `recover={"iterations": 100}`.

    Raises:
        ConfigError: an unknown recipe, method or field, with the nearest name; or a value that does not fit.
    """
    given = {"ipc": ipc, "method": method, "seed": seed}
    stated = {field: value for field, value in given.items() if value is not None}
    return recipe_with_fields(name, stated | _by_path(fields))


def load_config(path: str | os.PathLike[str], overrides: Iterable[str] = (), **fields: Any) -> RunConfig:
    """The config in a YAML file, such as the `run.yaml` of a run, with other values for some fields.

    The `run.yaml` in the folder of a run is of that run, though the folder was moved, renamed or copied:
    storage.root and run.name are the place where it lies, unless you give others.

    Args:
        path: of a local file.
        overrides: as the command line takes them: `section.field=value`.
        fields: as for `recipe`.

    Raises:
        ConfigError: the file cannot be read or holds no config, or as for `recipe`.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read", found=str(error)) from error
    overrides = list(overrides)
    given = {word.partition("=")[0] for word in overrides} | set(_by_path(fields))
    place = [word for word in _place_of_run(Path(path)) if word.partition("=")[0] not in given]
    config = load_yaml(text, [*place, *overrides], source=str(path))
    return with_fields(config, _by_path(fields)) if fields else config


def of_words(words: Sequence[str], config_file: str | None) -> RunConfig:
    """The config of `RECIPE section.field=value ...`, or of `--config FILE section.field=value ...`."""
    first = words[0] if words and "=" not in words[0] else None
    if config_file is not None:
        if first is not None:
            raise ConfigError("both a recipe and --config are given", found=first, expected="one of them")
        return load_config(config_file, words)
    if first is None:
        raise ConfigError("no recipe is given", expected=f"one of {', '.join(RECIPES)}, or --config FILE")
    file = Path(first) / RUN_CONFIG if Path(first).is_dir() else Path(first)
    if first not in RECIPES and file.is_file():
        raise ConfigError(f"'{first}' is no recipe", next=f"for the config in it: --config {file}")
    return load_recipe(first, words[1:])


def refuse_fields_as_options(words: Sequence[str]) -> None:
    """Raise a ConfigError for `--section.field value`, which other programs have."""
    for word in words:
        name = word.lstrip("-").partition("=")[0]
        is_field = word.startswith("-") and name in field_paths()
        if is_field and ("." in name or words[0] in _WITH_FIELDS):
            raise ConfigError(f"{word} is no option", expected=f"{name}=VALUE", next="fields have no dashes")


def _place_of_run(file: Path) -> list[str]:
    """Overrides with the place of a run whose own config a file is; else []."""
    folder = file.absolute().parent
    try:
        beside = json.loads(Store(str(folder)).read(RUN_DATA, limit=MAX_CONFIG_BYTES))
        is_of_run = file.name == RUN_CONFIG and "sha256" in beside["train"]
    except (ArtifactError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return [f"storage.root={folder.parent}", f"run.name={folder.name}"] if is_of_run else []


def recipes() -> dict[str, str]:
    """Names of the recipes, each with its dataset and the published result it aims at."""
    return {name: _first_line(recipe) for name, recipe in RECIPES.items()}


def methods() -> dict[str, str]:
    """Names of the methods, each in one line."""
    return {name: _first_line(method) for name, method in METHODS.items()}


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").partition("\n")[0]


def _by_path(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by their dotted names: `recover={"iterations": 100}` is `recover.iterations`."""
    paths: dict[str, Any] = {}
    for name, value in fields.items():
        if "." not in name and isinstance(value, Mapping):
            paths |= {f"{name}.{field}": each for field, each in value.items()}
        else:
            paths[name] = value
    return paths
