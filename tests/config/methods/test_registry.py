"""Methods as points of one space: how each differs, and that none leaves traces in the next."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from edc_ray.config.load import field_paths, load_recipe, load_yaml, to_yaml
from edc_ray.config.methods import edc
from edc_ray.config.methods.registry import METHODS, citations
from edc_ray.config.recipes import RECIPES
from edc_ray.config.run import RunConfig
from edc_ray.errors import ConfigError
from tests.config.methods.changed_fields import changed, of
from tests.config.write_resolved import FOLDER, resolved

FILES = [import_module(name) for name in sorted({method.__module__ for method in METHODS.values()})]
EVERY = [(recipe, method) for recipe in RECIPES for method in METHODS]


def test_what_configs_resolve_to_is_what_the_repository_has() -> None:
    """`make configs` writes the files."""
    stored = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert stored == resolved(), "run `make configs` and look at what it changes"


@pytest.mark.parametrize("ipc", [1, 10, 50])
@pytest.mark.parametrize(("recipe", "method"), EVERY)
def test_a_method_gives_a_valid_config_of_its_name_and_leaves_its_argument_alone(
    recipe: str, method: str, ipc: int
) -> None:
    config = RECIPES[recipe](ipc)
    result = METHODS[method](config)
    assert config == RECIPES[recipe](ipc)
    assert result.method == method
    assert RunConfig.model_validate(result.model_dump()) == result  # model_copy validates nothing


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_method_after_any_other_is_the_method_alone(recipe: str) -> None:
    config = RECIPES[recipe](10)
    alone = {name: method(config) for name, method in METHODS.items()}
    for before in alone.values():
        assert {name: method(before) for name, method in METHODS.items()} == alone


@pytest.mark.parametrize(("recipe", "method"), EVERY)
def test_a_method_leaves_seeds_students_cluster_and_what_images_there_are_alone(
    recipe: str, method: str
) -> None:
    found = changed(RECIPES[recipe](10), of(recipe, method))
    sections = {name.split(".")[0] for name in found - {"dataset.train_resize", "dataset.val_resize"}}
    assert sections <= {"method", "squeeze", "statistics", "init", "recover", "relabel", "evaluate"}
    assert not found & {"evaluate.students", "evaluate.seeds", "evaluate.rows", "statistics.patch_side"}


@pytest.mark.parametrize("method", METHODS)
def test_on_an_unknown_dataset_a_method_says_nothing_of_networks_and_budgets(method: str) -> None:
    known = RECIPES["cifar10"]()
    mine = known.model_copy(update={"dataset": known.dataset.model_copy(update={"name": "mine"})})
    budgets = {"squeeze.observers", "recover.iterations", "relabel.epochs", "evaluate.batch_size"}
    assert not changed(mine, METHODS[method](mine)) & budgets
    assert METHODS["edc"](METHODS[method](mine)) == METHODS["edc"](mine)


@pytest.mark.parametrize("method", METHODS)
def test_the_docstring_of_a_method_states_the_numbers_aimed_at(method: str) -> None:
    text = (METHODS[method].__doc__ or "").lower()
    states_numbers = "table" in text and any(character.isdigit() for character in text)
    said = "say which published table a method aims at, or that it aims at no published row"
    assert states_numbers or "aims at no published row" in text, said


def test_the_command_line_gives_ipc_to_the_recipe_then_the_method_then_the_rest() -> None:
    config = load_recipe("tiny_imagenet", ["relabel.epochs=7", "method=rded", "ipc=1"])
    assert config == of("tiny_imagenet", "rded", 1).model_copy(
        update={"relabel": of("tiny_imagenet", "rded", 1).relabel.model_copy(update={"epochs": 7})}
    )


@pytest.mark.parametrize("file", FILES)
def test_a_file_sets_fields_that_exist_on_datasets_that_exist(file: ModuleType) -> None:
    assert file.VALUES.fields() <= set(field_paths())
    assert set(file.VALUES.datasets) <= set(RECIPES)
    assert {method.__name__ for method in file.METHODS} <= set(METHODS)


@pytest.mark.parametrize("method", [*METHODS, None, "mine:method"])
def test_edc_is_always_cited_and_every_entry_is_whole(method: str | None) -> None:
    entries = citations(method)
    assert entries[0] == edc.CITATION
    for entry in entries:
        assert re.match(r"@\w+\{\w+,\n", entry)
        assert entry.count("{") == entry.count("}")
        assert {"title", "author", "year"} <= set(re.findall(r"^  (\w+) = ", entry, re.MULTILINE))


@pytest.mark.parametrize(
    ("method", "arxiv"),
    [("sre2l", "2306.13092"), ("cda", "2311.18838"), ("gvbsm", "2311.17950"), ("rded", "2312.03526"),
     ("edc_a", "2311.17950")],
)  # fmt: skip
def test_a_predecessor_is_cited_too(method: str, arxiv: str) -> None:
    assert [arxiv in entry for entry in citations(method)] == [False, True]


OWN_METHODS = """
def longer(config):
    recover = config.recover.model_copy(update={"iterations": 5 * config.ipc})
    return config.model_copy(update={"recover": recover})

def nothing(config):
    return None
"""


@pytest.fixture
def own_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_methods.py").write_text(OWN_METHODS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own_methods")
def test_a_users_function_is_a_method_and_no_other_leaves_traces_in_it() -> None:
    config = load_recipe("digits", ["method=own_methods:longer", "ipc=3"])
    assert (config.method, config.recover.iterations) == ("own_methods:longer", 15)
    assert config.evaluate.loss == "mse_ce"
    assert load_yaml(to_yaml(config)) == config
    assert METHODS["edc"](config) == load_recipe("digits", ["ipc=3"])


@pytest.mark.usefixtures("own_methods")
@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("own_methods:shorter", r"no function 'shorter'(.|\n)*a RunConfig"),
        ("no_such_module_anywhere:edc", r"cannot be imported(.|\n)*PYTHONPATH"),
        ("own_methods:nothing", r"gives no config(.|\n)*NoneType"),
        ("own methods:longer", "unknown method"),
        ("edk", "Did you mean 'edc'"),
    ],
)
def test_a_method_that_cannot_be_used_is_refused(name: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load_recipe("digits", [f"method={name}"])
