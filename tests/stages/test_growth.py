"""Growing by ipc where the method's values follow ipc."""

from __future__ import annotations

from typing import Any

import pytest

from edc_ray.config.load import load_recipe, with_fields
from edc_ray.config.method_values import field_value
from edc_ray.errors import ConfigError
from edc_ray.stages.growth import follows_ipc, with_blocks_of
from tests.stages.tiny_runs import image_hashes, new_root, run_until, tiny_context

# On this dataset EDC's work units are blocks of 100 images: 100 classes of one image, 50 of two.
FOLLOWING: dict[str, Any] = {"dataset__name": "cifar100", "recover__layers": ["bn", "conv"]}
ONE = {"recover__classes_per_unit": 100, "recover__ipc_per_unit": 1}
THREE = {"recover__classes_per_unit": 33, "recover__ipc_per_unit": 3}
SIZES = tuple(name.replace("__", ".") for name in ONE)


def test_a_run_that_grows_keeps_the_blocks_it_began_with_and_its_images() -> None:
    root = new_root()
    few = tiny_context(root, ipc=1, **FOLLOWING, **ONE)
    run_until(few, "recover")
    before = image_hashes(few)
    more = tiny_context(root, ipc=3, **FOLLOWING, **THREE)
    assert [field_value(more.config, name) for name in SIZES] == [100, 1]
    reports = {report.stage: report for report in run_until(more, "recover")}
    assert (reports["recover"].units_done, reports["recover"].units_reused) == (2, 1)
    assert {slot: sha for slot, sha in image_hashes(more).items() if slot in before} == before
    # The same command again finds a folder of the same ipc, with the blocks of the smaller one.
    again = tiny_context(root, ipc=3, **FOLLOWING, **THREE)
    assert again.config == more.config


def test_sizes_that_a_user_gives_are_a_difference_like_any_other() -> None:
    root = new_root()
    run_until(tiny_context(root, ipc=1, **FOLLOWING, **ONE), "recover")
    chosen = {"recover__classes_per_unit": 2, "recover__ipc_per_unit": 3}
    with pytest.raises(ConfigError, match=r"recover\.classes_per_unit=100"):
        tiny_context(root, ipc=3, **FOLLOWING, **chosen)


def test_a_folder_without_images_takes_the_sizes_of_the_new_ipc() -> None:
    root = new_root()
    run_until(tiny_context(root, ipc=1, **FOLLOWING, **ONE), "init")
    more = tiny_context(root, ipc=3, **FOLLOWING, **THREE)
    assert [field_value(more.config, name) for name in SIZES] == [33, 3]


@pytest.mark.parametrize("recipe", ["cifar100", "tiny_imagenet", "imagenet1k"])
def test_every_recipe_that_began_with_one_image_grows_to_ten(recipe: str) -> None:
    one, ten = load_recipe(recipe, ["ipc=1"]), load_recipe(recipe, ["ipc=10"])
    grown = with_blocks_of(one, ten)
    assert grown != ten
    assert grown.stage_inputs("recover") == one.stage_inputs("recover")


def test_values_of_labels_and_students_may_follow_ipc_and_those_of_images_may_not() -> None:
    one, ten = load_recipe("tiny_imagenet", ["ipc=1"]), load_recipe("tiny_imagenet", ["ipc=10"])
    assert one.relabel.epochs != ten.relabel.epochs
    assert follows_ipc(one, ten, "relabel.epochs")
    assert not follows_ipc(ten, one, "relabel.epochs")
    assert not follows_ipc(one, with_fields(ten, {"relabel.epochs": 7}), "relabel.epochs")
    assert not follows_ipc(one, ten, "recover.classes_per_unit")
