from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandAugment
from torchvision.transforms.autoaugment import _apply_op

from edc_ray.core.seeding import draws
from edc_ray.core.views.rand_augment import (
    MAGNITUDE,
    OPERATIONS,
    RandAugmentParams,
    apply_rand_augment,
    sample_rand_augment,
)

INDICES = {operation.name: index for index, operation in enumerate(OPERATIONS)}


def pictures(count: int, channels: int = 3, side: int = 16) -> Tensor:
    values = draws(5, "pictures", channels, side).integers(256, count, channels, side, side)
    return torch.from_numpy(values.astype(np.uint8))


def params_of(count: int, side: int = 16, operations: int = 2) -> RandAugmentParams:
    return sample_rand_augment([draws(3, image) for image in range(count)], (side, side), operations)


def reference(image: Tensor, name: str, magnitude: float) -> Tensor:
    """torchvision's own RandAugment, with this draw."""
    return _apply_op(image, name, magnitude, InterpolationMode.NEAREST, None)


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (64, 48), (224, 224)])
def test_operations_and_their_strengths_are_torchvisions(size: tuple[int, int]) -> None:
    space = RandAugment()._augmentation_space(31, size)
    assert [operation.name for operation in OPERATIONS] == list(space)
    for operation in OPERATIONS:
        magnitudes, signed = space[operation.name]
        theirs = float(magnitudes[9]) if magnitudes.ndim else 0.0
        # torch keeps them in float32.
        assert operation.strength(MAGNITUDE, size) == pytest.approx(theirs, rel=1e-6)
        assert operation.signed == signed


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", list(INDICES))
def test_an_operation_gives_the_bytes_of_torchvisions(name: str, channels: int) -> None:
    images, operation = pictures(4, channels), OPERATIONS[INDICES[name]]
    for sign in (1, -1) if operation.signed else (1,):
        magnitude = sign * operation.strength(MAGNITUDE, (16, 16))
        params = RandAugmentParams(np.full((4, 1), INDICES[name]), np.full((4, 1), magnitude))
        changed = apply_rand_augment(images, params)
        assert torch.equal(changed, torch.stack([reference(image, name, magnitude) for image in images]))
        assert torch.equal(changed, images) == (name == "Identity" or (name == "Color" and channels == 1))


def test_operations_of_an_image_follow_one_another_and_other_images_do_not_matter() -> None:
    images, params = pictures(40), params_of(40)
    whole = apply_rand_augment(images, params)
    for row, image in enumerate(images):
        expected = image
        for index, magnitude in zip(params.operation[row], params.magnitude[row], strict=True):
            expected = reference(expected, OPERATIONS[index].name, float(magnitude))
        assert torch.equal(whole[row], expected)
    rows = np.array([7, 3, 3, 30])
    assert torch.equal(apply_rand_augment(images[rows], params[rows]), whole[rows])


def test_every_operation_and_both_signs_are_drawn() -> None:
    params = params_of(400)
    assert np.unique(params.operation).tolist() == list(range(len(OPERATIONS)))
    for index, operation in enumerate(OPERATIONS):
        signs = set(np.sign(params.magnitude[params.operation == index]).tolist())
        assert len(signs) == (2 if operation.signed else 1)


def test_draws_of_an_image_are_its_own() -> None:
    few, many = params_of(3), params_of(9)
    np.testing.assert_array_equal(few.operation, many.operation[:3])
    np.testing.assert_array_equal(few.magnitude, many.magnitude[:3])


def test_images_stay_as_they_are_and_torchs_generator_is_not_asked() -> None:
    images, state = pictures(14), torch.get_rng_state()
    before = images.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply_rand_augment(images, params_of(14))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_other_images_than_bytes_and_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        apply_rand_augment(pictures(2).float(), params_of(2))
    with pytest.raises(ValueError, match="3 parameters need as many"):
        apply_rand_augment(pictures(2), params_of(3))
