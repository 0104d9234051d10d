from __future__ import annotations

import pytest

from edc_ray.config.methods.edc_official import local_images
from edc_ray.config.methods.registry import METHODS
from edc_ray.config.recipes import RECIPES
from tests.config.methods.changed_fields import changed, of


def test_edc_official_differs_from_edc_on_digits_only_in_the_stated_deviations() -> None:
    assert changed(of("digits", "edc"), of("digits", "edc_official")) == {
        "method", "recover.class_patch_swapped", "init.replacement", "init.mirror",
        "recover.estimate_start", "recover.variance", "recover.order", "recover.carry",
        "recover.image_rounding", "recover.verifier_touches_estimate", "evaluate.order",
    }  # fmt: skip


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
    assert (config.relabel.labels == "stored") == (dataset == "imagenet1k")
