"""What a recipe or a file knows of its images, when they lie elsewhere or are others."""

from __future__ import annotations

import pytest

from edc_ray.config.dataset import INFERRED_FIELDS, KNOWN_FIELDS
from edc_ray.config.load import load_recipe, load_yaml, to_yaml, with_fields
from edc_ray.config.recipes import RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_keeps_what_it_knows_of_its_images_in_another_place(recipe: str) -> None:
    spec, given = RECIPES[recipe]().dataset, load_recipe(recipe, ["dataset.train=/my/images"]).dataset
    assert given == spec.model_copy(update={"train": "/my/images", "val": None})
    both = load_recipe(recipe, ["dataset.train=/my/images", "dataset.val=/my/val"]).dataset
    assert both == spec.model_copy(update={"train": "/my/images", "val": "/my/val"})


@pytest.mark.parametrize("recipe", RECIPES)
def test_under_another_name_what_a_recipe_knew_of_its_images_is_dropped(recipe: str) -> None:
    config = load_recipe(recipe, ["dataset.name=mine", "dataset.train=/my/images"])
    assert [getattr(config.dataset, name) for name in (*INFERRED_FIELDS, "val")] == [None] * 7
    assert config.dataset.train == "/my/images"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_file_of_a_recipes_dataset_has_what_the_recipe_knows_of_it(recipe: str) -> None:
    spec, names = RECIPES[recipe]().dataset, ("name", *KNOWN_FIELDS)
    found = load_yaml(f"dataset: {{name: {recipe}, train: /my/images, max_per_class: 5}}").dataset
    assert {name: getattr(found, name) for name in names} == {name: getattr(spec, name) for name in names}
    assert (found.train, found.val, found.max_per_class) == ("/my/images", None, 5)
    placeless = load_yaml(f"dataset: {{name: {recipe}, image_size: null}}").dataset
    assert (placeless.train, placeless.val, placeless.image_size) == (spec.train, spec.val, None)


def test_fields_given_beside_the_training_images_are_kept() -> None:
    fields = ["dataset.name=mine", "dataset.image_size=24", "dataset.train=/my/images", "dataset.val=/my/val"]
    spec = load_recipe("cifar10", fields).dataset
    assert (spec.image_size, spec.val, spec.num_classes) == (24, "/my/val", None)


def test_naming_the_recipes_own_training_images_drops_nothing() -> None:
    assert load_recipe("cifar10", ["dataset.train=torchvision:cifar10"]) == RECIPES["cifar10"]()


def test_a_file_keeps_what_it_knew_of_its_images_unless_others_get_a_name_of_their_own() -> None:
    resolved = with_fields(
        RECIPES["digits"](), {"dataset.mean": [0.3], "dataset.max_per_class": 30, "dataset.val": "old"}
    )
    spec = load_yaml(to_yaml(resolved), ["dataset.train=/my/images"]).dataset
    assert (spec.mean, spec.max_per_class, spec.val, spec.image_size) == ((0.3,), 30, None, 16)
    spec = load_yaml(to_yaml(resolved), ["dataset.train=/my/images", "dataset.name=mine"]).dataset
    assert (spec.mean, spec.max_per_class, spec.val, spec.image_size) == (None, None, None, None)
