from __future__ import annotations

import pytest

from edc_ray.config.load import field_paths
from edc_ray.config.methods.catalogue import METHODS
from edc_ray.config.methods.peer_values import CDA, GVBSM, RDED, SRE2L, rded_batch
from edc_ray.config.recipes import RECIPES
from edc_ray.models.registry import network_names


@pytest.mark.parametrize("values", [SRE2L, CDA, GVBSM, RDED])
def test_every_field_of_the_tables_exists(values: object) -> None:
    assert isinstance(values, type(SRE2L))
    assert values.fields() <= set(field_paths())
    assert set(values.datasets) <= set(RECIPES)


@pytest.mark.parametrize(
    ("num_classes", "ipc", "batch"),
    [(10, 1, 10), (10, 10, 50), (10, 50, 100), (100, 10, 100), (1000, 50, 200), (1000, 1, 20)],
)
def test_rdeds_students_take_the_batch_of_its_rule(num_classes: int, ipc: int, batch: int) -> None:
    assert rded_batch(num_classes, ipc) == batch


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("method", METHODS)
def test_programs_crop_whole_pictures_of_the_imagenet_sets_and_show_students_whole_groups(
    recipe: str, method: str
) -> None:
    config = METHODS[method](RECIPES[recipe](10))
    of_programs = method not in ("edc", "edc_g")
    whole = of_programs and recipe in ("imagenet10", "imagenet1k")
    assert config.dataset.train_resize == ("whole" if whole else "shorter_side")
    assert config.evaluate.order == ("groups" if of_programs else "shuffled")


def test_students_have_the_rates_of_rded_and_of_the_papers_swin() -> None:
    rates = {name: METHODS[name](RECIPES["imagenet1k"]()).evaluate.learning_rates for name in METHODS}
    assert rates["edc"] == rates["edc_official"] == {"swin_t": 1e-4}
    assert rates["sre2l"] == rates["cda"] == rates["gvbsm"] == {}
    wanted = {
        "mobilenet_v2": 0.0025,
        "efficientnet_b0": 0.002,
        "vgg11": 5e-4,
        "alexnet": 1e-4,
        "vit_b_16": 1e-4,
    }
    assert rates["rded"] | wanted == rates["rded"]
    assert set(rates["rded"]) <= set(network_names())
    assert "resnet18" not in rates["rded"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_only_rded_validates_on_enlarged_images(recipe: str) -> None:
    found = {name: METHODS[name](RECIPES[recipe]()).dataset.val_resize for name in METHODS}
    usual = RECIPES[recipe]().dataset.val_resize
    assert found.pop("rded") == (usual if recipe == "digits" else "eight_sevenths")
    assert set(found.values()) == {usual}
