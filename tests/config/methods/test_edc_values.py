"""The values of the tables, where a slip would go unseen."""

from __future__ import annotations

import pytest

from edc_ray.config.load import field_paths
from edc_ray.config.methods.catalogue import METHODS
from edc_ray.config.methods.edc_values import EDC, OFFICIAL, local_images, units_of
from edc_ray.config.recipes import RECIPES


def test_every_field_of_the_tables_exists() -> None:
    assert (EDC.fields() | OFFICIAL.fields()) <= set(field_paths())


def test_every_recipe_has_a_row() -> None:
    assert set(EDC.datasets) == set(RECIPES)
    assert set(OFFICIAL.datasets) == set(RECIPES) - {"digits"}


@pytest.mark.parametrize(("batch", "ipc", "classes"), [(100, 1, 100), (100, 10, 10), (80, 50, 8), (5, 10, 1)])
def test_units_have_the_batch_of_the_paper(batch: int, ipc: int, classes: int) -> None:
    units = units_of(batch, ipc)
    assert units == {"recover.ipc_per_unit": min(ipc, 10), "recover.classes_per_unit": classes}


def test_real_images_per_slot_shrink_with_ipc_down_to_one() -> None:
    """int(50000 / (ipc * 1000)) of the ImageNet-1k program, which fails beyond ipc 50."""
    found = [local_images(50, ipc)["recover.local_images_per_slot"] for ipc in (1, 10, 50, 100)]
    assert found == [50, 5, 1, 1]


def test_only_the_paper_trains_longer_on_tiny_imagenet_with_one_image() -> None:
    def epochs(method: str, ipc: int) -> int:
        return METHODS[method](RECIPES["tiny_imagenet"](ipc)).relabel.epochs

    assert [epochs("edc", ipc) for ipc in (1, 10, 50)] == [1000, 300, 300]
    assert [epochs("edc_official", ipc) for ipc in (1, 10, 50)] == [300, 300, 300]


# Iterations, batch and GPUs of the scripts; student's batch and smallest crop.
SCRIPTS = {
    "imagenet1k": (1000, 80, 4, 100, 0.5),
    "imagenet10": (50, 100, 1, 50, 0.5),
    "tiny_imagenet": (2000, 100, 4, 100, 0.5),
    "cifar100": (2000, 100, 4, 50, 0.5),
    "cifar10": (75, 10, 1, 10, 0.08),
}


@pytest.mark.parametrize("dataset", SCRIPTS)
def test_edc_official_has_the_values_of_the_scripts(dataset: str) -> None:
    config = METHODS["edc_official"](RECIPES[dataset](10))
    recover = config.recover
    found = (
        recover.iterations, recover.batch_size, recover.virtual_ranks, config.evaluate.batch_size,
        recover.crop_scale[0],
    )  # fmt: skip
    assert found == SCRIPTS[dataset]
    assert (recover.image_format == "png") == (dataset in ("tiny_imagenet", "cifar100"))
    assert recover.verifier_touches_estimate == (dataset != "imagenet1k")
    assert recover.verify_every == (20 if dataset.startswith("imagenet") else 100)
    assert (config.evaluate.labels == "stored") == (dataset == "imagenet1k")
