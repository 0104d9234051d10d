from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import edc_ray
from edc_ray.config.load import load_recipe
from edc_ray.config.methods.registry import METHODS
from edc_ray.config.recipes import RECIPES
from edc_ray.errors import ConfigError


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, []),
        ({"ipc": 3}, ["ipc=3"]),
        ({"method": "rded", "seed": 2}, ["method=rded", "seed=2"]),
        ({"ipc": 5, "recover.iterations": 7}, ["ipc=5", "recover.iterations=7"]),
        ({"recover": {"iterations": 7}}, ["recover.iterations=7"]),
        ({"sweep": {"space": {"recover.iterations": [1, 2]}}}, ["sweep.space.recover.iterations=[1,2]"]),
        ({"squeeze.observers": ("convnet_d1",)}, ["squeeze.observers=[convnet_d1]"]),
    ],
)
def test_a_recipe_with_fields_is_what_the_command_line_makes_of_them(
    fields: dict[str, Any], words: list[str]
) -> None:
    assert edc_ray.recipe("digits", **fields) == load_recipe("digits", words)


@pytest.mark.parametrize(
    ("name", "fields", "nearest"),
    [
        ("digit", {}, "digits"),
        ("digits", {"method": "rdet"}, "rded"),
        ("digits", {"recover.iteration": 3}, "recover.iterations"),
        ("digits", {"recover": {"iteration": 3}}, "recover.iterations"),
        ("digits", {"sed": 3}, "seed"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, fields: dict[str, Any], nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean '{nearest}'"):
        edc_ray.recipe(name, **fields)


def test_a_config_written_to_a_file_is_loaded_with_other_values_for_some_fields(tmp_path: Path) -> None:
    config = edc_ray.recipe("digits", method="rded", ipc=2)
    (tmp_path / "run.yaml").write_text(edc_ray.to_yaml(config))
    assert edc_ray.load_config(tmp_path / "run.yaml") == config
    changed = edc_ray.load_config(tmp_path / "run.yaml", ["seed=4"], recover={"iterations": 9})
    assert (changed.seed, changed.recover.iterations, changed.method) == (4, 9, "rded")


@pytest.mark.parametrize(
    ("beside", "is_of_run"),
    [
        ('{"train": {"images": 3, "sha256": "0"}}', True),
        ('{"train": [1]}', False),
        ("[", False),
        (None, False),
    ],
)
def test_the_config_in_a_run_folder_says_where_that_lies(
    tmp_path: Path, beside: str | None, is_of_run: bool
) -> None:
    config = edc_ray.recipe("digits", storage={"root": "/else"}, run={"name": "other"})
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "run.yaml").write_text(edc_ray.to_yaml(config))
    if beside is not None:
        (tmp_path / "moved" / "data.json").write_text(beside)
    found = edc_ray.load_config(tmp_path / "moved" / "run.yaml")
    expected = (str(tmp_path), "moved") if is_of_run else ("/else", "other")
    assert (found.storage.root, found.run.name) == expected
    named = edc_ray.load_config(tmp_path / "moved" / "run.yaml", ["run.name=five"])
    assert (named.storage.root, named.run.name) == (expected[0], "five")


def test_recipes_and_methods_are_listed_with_a_line_each() -> None:
    assert list(edc_ray.recipes()) == list(RECIPES)
    assert "79.1" in edc_ray.recipes()["cifar10"]
    assert list(edc_ray.methods()) == list(METHODS)
    assert all(edc_ray.methods().values())
