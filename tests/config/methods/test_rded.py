from __future__ import annotations

import pytest

from edc_ray.config.methods.rded import rded_batch
from edc_ray.config.methods.registry import METHODS
from edc_ray.config.recipes import RECIPES
from edc_ray.models.registry import network_names
from tests.config.methods.changed_fields import of


@pytest.mark.parametrize(
    ("num_classes", "ipc", "batch"),
    [(10, 1, 10), (10, 10, 50), (10, 50, 100), (100, 10, 100), (1000, 50, 200), (1000, 1, 20)],
)
def test_rdeds_students_take_the_batch_of_its_rule(num_classes: int, ipc: int, batch: int) -> None:
    assert rded_batch(num_classes, ipc) == batch


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


@pytest.mark.parametrize("recipe", RECIPES)
def test_rded_recovers_nothing_and_shuffles_the_cells_of_its_mosaics(recipe: str) -> None:
    config = of(recipe, "rded")
    assert not config.recover.enabled
    assert (config.init.kind, config.init.mosaic_order) == ("mosaic", "rded")
    assert config.relabel.patch_shuffle == config.init.factor
    assert (config.evaluate.loss, config.evaluate.temperature) == ("kl", 20.0)
