from __future__ import annotations

import pytest

from edc_ray.config.methods.edc import SMALL_OBSERVERS
from edc_ray.config.methods.registry import METHODS
from edc_ray.config.recipes import RECIPES
from edc_ray.models.registry import check_network


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_value_named_after_its_dataset(name: str) -> None:
    config = RECIPES[name]()
    assert config == RECIPES[name]()
    assert (config.run.name, config.dataset.name, config.method) == (name, name, "edc")
    assert RECIPES[name](3).ipc == 3


@pytest.mark.parametrize("name", RECIPES)
def test_the_docstring_of_a_recipe_is_one_line_that_states_its_aim(name: str) -> None:
    lines = (RECIPES[name].__doc__ or "").splitlines()
    assert len(lines) == 1
    assert "digits" in lines[0] or "Table 1" in lines[0]


@pytest.mark.parametrize("name", RECIPES)
def test_every_network_of_a_recipe_can_be_built_for_its_images(name: str) -> None:
    config = RECIPES[name]()
    spec = config.dataset
    official = METHODS["edc_official"](config)
    for network in {*config.squeeze.observers, *official.squeeze.observers, *config.evaluate.students}:
        check_network(
            network,
            num_classes=spec.num_classes or 10,
            image_size=spec.image_size or 16,
            channels=spec.channels or 1,
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", RECIPES)
def test_a_mixing_group_is_a_students_batch_or_a_multiple_of_it(name: str, method: str) -> None:
    config = METHODS[method](RECIPES[name]())
    assert config.relabel.mix_group % config.evaluate.batch_size == 0


def test_cifar_recipes_train_the_eight_small_observers_each_once() -> None:
    assert len(set(SMALL_OBSERVERS)) == 8
    assert RECIPES["cifar10"]().squeeze.observers == SMALL_OBSERVERS
    assert RECIPES["cifar100"]().observers_of("relabel") == SMALL_OBSERVERS[:5]


def test_labels_of_imagenet10_follow_its_list_and_not_the_alphabet() -> None:
    names = RECIPES["imagenet10"]().dataset.class_names
    assert names is not None
    assert (len(set(names)), names[0], names[-1]) == (10, "n02869837", "n01773797")
    assert list(names) != sorted(names)


def test_imagenet1k_takes_its_observers_from_torchvision_untrained() -> None:
    squeeze = RECIPES["imagenet1k"]().squeeze
    assert (set(squeeze.weights), squeeze.epochs) == (set(squeeze.observers), 0)


@pytest.mark.parametrize("name", RECIPES)
def test_the_224_pixel_recipes_validate_on_the_middle_of_256(name: str) -> None:
    spec = RECIPES[name]().dataset
    assert spec.val_resize == ("centre_crop" if spec.image_size == 224 else "shorter_side")


def test_digits_are_never_mirrored() -> None:
    assert not RECIPES["digits"]().dataset.flip
