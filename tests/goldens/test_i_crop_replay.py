"""Stored coordinates, and views cut again from them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from edc_ray.core.views.augment import AugmentParams, apply_views
from edc_ray.core.views.official_views import coordinates_from_views, views_from_coordinates
from tests.goldens.files import TOLERANCE, load_golden
from tests.goldens.official_draws import official_replay, official_view

FILE = "i_crop_replay.npz"
IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)


def image_and_size() -> tuple[torch.Tensor, tuple[int, int], int]:
    golden = load_golden(FILE)
    image = torch.from_numpy(golden["image_uint8_hwc"]).permute(2, 0, 1).contiguous()
    return image, (image.shape[1], image.shape[2]), int(golden["out_size"])


def normalised(image: torch.Tensor) -> torch.Tensor:
    image = image.float() / 255 if image.dtype == torch.uint8 else image
    return (image - IMAGENET_MEAN) / IMAGENET_STD


def keys(prefix: str, suffix: str) -> list[str]:
    names = load_golden(FILE)
    return sorted(key.split("|")[0] for key in names if key.startswith(prefix) and key.endswith(suffix))


def boxes() -> list[int]:
    return list(range(len(load_golden(FILE)["boxes_ijhw"])))


def view_of(box: int, flip: bool) -> AugmentParams:
    golden, (_, size, _) = load_golden(FILE), image_and_size()
    return views_from_coordinates(torch.from_numpy(golden[f"coords{box}"])[None], torch.tensor([flip]), size)


@pytest.mark.parametrize("box", boxes())
def test_coordinates_of_a_box_equal_the_stored_ones_and_return_to_the_box(box):
    golden, (_, size, _) = load_golden(FILE), image_and_size()
    view = view_of(box, False)
    assert [int(v) for v in (view.top, view.left, view.height, view.width)] == golden["boxes_ijhw"][
        box
    ].tolist()
    stored = torch.from_numpy(golden[f"coords{box}"])
    assert torch.equal(coordinates_from_views(view, size)[0], stored)


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("box", boxes())
def test_replayed_tensor_view_equals_the_official_one(box, flip):
    image, _, size = image_and_size()
    view = official_replay(image.float() / 255, view_of(box, bool(flip)), size)
    expected = torch.from_numpy(load_golden(FILE)[f"imagenet_box{box}_flip{flip}"])
    torch.testing.assert_close(normalised(view), expected, **TOLERANCE["image"])


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("box", boxes())
def test_replayed_8_bit_view_equals_pillows(box, flip):
    image, _, size = image_and_size()
    view = official_replay(image, view_of(box, bool(flip)), size).float() / 255
    expected = torch.from_numpy(load_golden(FILE)[f"cifar_pil_box{box}_flip{flip}"])
    torch.testing.assert_close(view, expected * IMAGENET_STD + IMAGENET_MEAN, **TOLERANCE["grey_level"])


@pytest.mark.parametrize("case", keys("save_seed", "|coords"))
def test_a_view_drawn_from_the_official_seed_equals_the_saved_one(case):
    golden, (image, size, out_size) = load_golden(FILE), image_and_size()
    generator = torch.Generator().manual_seed(int(case.removeprefix("save_seed")))
    view = official_view(size, (0.5, 1.0), generator)
    assert torch.equal(coordinates_from_views(view, size)[0], torch.from_numpy(golden[f"{case}|coords"]))
    assert bool(view.flip) == bool(golden[f"{case}|flip"])
    replayed = normalised(official_replay(image.float() / 255, view, out_size))
    torch.testing.assert_close(replayed, torch.from_numpy(golden[f"{case}|out"]), **TOLERANCE["image"])


def test_a_view_at_the_images_own_size_equals_the_official_replay():
    image, (height, width), _ = image_and_size()
    # The official replay makes squares; zeros below or right of the image leave its boxes as they are.
    side = max(height, width)
    pixels = F.pad(image.float() / 255, (0, side - width, 0, side - height))
    for box in boxes():
        view = view_of(box, True)
        expected = official_replay(pixels, view, side)
        torch.testing.assert_close(apply_views(pixels[None], view)[0], expected, **TOLERANCE["image"])
