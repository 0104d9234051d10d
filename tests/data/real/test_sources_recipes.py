"""Images of a recipe in a user's place: taken as the recipe knows them, or refused with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from edc_ray.config.load import load_recipe, with_fields
from edc_ray.config.recipes import RECIPES
from edc_ray.data.real.sources import open_dataset
from edc_ray.errors import DataError
from tests.data.made_images import synthetic_images, write_image_folder

COLOURED = [name for name in RECIPES if name != "digits"]


def opened(recipe: str, folder: Path, **fields: object):
    config = with_fields(load_recipe(recipe), {"dataset.train": str(folder), **fields})
    return open_dataset(config.dataset, seed=0)


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    write_image_folder(synthetic_images(2, 4, 40, 3), str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("recipe", COLOURED)
def test_images_of_other_classes_are_refused_with_the_advice_to_name_them(
    recipe: str, two_classes: Path
) -> None:
    with pytest.raises(DataError, match="class") as caught:
        opened(recipe, two_classes)
    assert f"not the images of {recipe}: dataset.name=NAME" in str(caught.value.next)
    spec = opened(recipe, two_classes, **{"dataset.name": "mine"}).spec
    assert (spec.num_classes, spec.image_size, spec.channels) == (2, 40, 3)


@pytest.mark.parametrize("recipe", COLOURED)
def test_images_without_colour_are_refused_with_the_same_advice(recipe: str, tmp_path: Path) -> None:
    known = RECIPES[recipe]().dataset
    images = synthetic_images(known.num_classes or 0, 2, 8, 1)
    names = known.class_names or images.class_names
    images.class_names = names
    write_image_folder(images, str(tmp_path))
    with pytest.raises(DataError, match="no image has colour") as caught:
        opened(recipe, tmp_path)
    assert "dataset.name=NAME" in str(caught.value.next)
    assert opened(recipe, tmp_path, **{"dataset.name": "mine"}).spec.channels == 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_recipes_images_elsewhere_are_seen_as_the_recipe_says(recipe: str, tmp_path: Path) -> None:
    known = RECIPES[recipe]().dataset
    count = known.num_classes or 10
    images = synthetic_images(count, 2, 8, known.channels or 1)
    images.class_names = known.class_names or images.class_names
    write_image_folder(images, str(tmp_path))
    spec = opened(recipe, tmp_path).spec
    assert (spec.num_classes, spec.image_size) == (count, known.image_size)
    if known.mean is not None:
        assert (spec.mean, spec.std) == (known.mean, known.std)
