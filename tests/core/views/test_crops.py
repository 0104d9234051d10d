from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional as TF

from edc_ray.core.seeding import draws
from edc_ray.core.views.augment import sample_views
from edc_ray.core.views.crops import (
    assemble_mosaics,
    best_crop_of_each,
    cross_entropy_of_each,
    cut_crops,
    lowest_losses,
    mosaic_ranks,
    pad_to_size,
    sample_crops,
    shared_crop_candidates,
)


def images_of(count: int, side: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(count))


def test_crops_of_a_picture_equal_torchvisions_and_those_of_pillow_within_a_grey_level():
    picture = torch.randint(
        0, 256, (3, 30, 41), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    views = sample_views(draws(0), 8, (30, 41), (0.3, 1.0))
    found = cut_crops(picture, views, 12)
    assert 0 < views.flip.sum() < 8
    for row, crop in enumerate(found):
        box = [int(getattr(views, name)[row]) for name in ("top", "left", "height", "width")]
        as_floats = TF.resized_crop(picture / 255, *box, size=[12, 12], antialias=True)
        by_pillow = TF.pil_to_tensor(TF.resized_crop(TF.to_pil_image(picture), *box, size=[12, 12])) / 255
        if views.flip[row]:
            as_floats, by_pillow = as_floats.flip(-1), by_pillow.flip(-1)
        torch.testing.assert_close(crop, as_floats)
        # Pillow rounds twice: after the columns and after the rows.
        torch.testing.assert_close(crop, by_pillow, atol=1.01 / 255, rtol=0)


def test_crops_are_square_unflipped_and_equal_torchvisions():
    image = torch.rand(3, 30, 41, generator=torch.Generator().manual_seed(0))
    crops = sample_crops(draws(0), 6, (30, 41))
    assert torch.equal(crops.height, crops.width)
    assert not crops.flip.any()
    for i, cut in enumerate(cut_crops(image, crops, 12)):
        top, left, side = int(crops.top[i]), int(crops.left[i]), int(crops.height[i])
        expected = TF.resized_crop(image[None], top, left, side, side, [12, 12], antialias=True)[0]
        torch.testing.assert_close(cut, expected, rtol=0, atol=1e-6)


def test_an_odd_rest_of_padding_goes_below_and_right():
    padded = pad_to_size(torch.ones(1, 1, 2, 2), 5)
    assert padded[0, 0].nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert padded.shape == (1, 1, 5, 5)


def test_scores_are_of_the_mean_logits_and_carry_no_gradient():
    observers = [nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4)).eval() for _ in range(2)]
    images, labels = images_of(5), torch.tensor([0, 1, 2, 3, 0])
    losses = cross_entropy_of_each(images, labels, observers)
    mean = (observers[0](images) + observers[1](images)) / 2
    expected = -mean.log_softmax(1)[torch.arange(5), labels]
    torch.testing.assert_close(losses, expected.detach())
    assert not losses.requires_grad


def test_each_image_keeps_its_first_best_crop():
    crops = images_of(6).reshape(2, 3, 3, 8, 8)
    best, losses = best_crop_of_each(crops, torch.tensor([[2.0, 1.0, 1.0], [0.5, 3.0, 0.7]]))
    assert torch.equal(best, torch.stack([crops[0, 1], crops[1, 0]]))
    assert losses.tolist() == [1.0, 0.5]


def test_lowest_losses_ascend_and_equals_keep_their_order():
    losses = torch.tensor([2.0, 1.0, 3.0, 1.0, 0.0])
    assert lowest_losses(losses, 3).tolist() == [4, 1, 3]
    assert lowest_losses(losses, 9).tolist() == [4, 1, 3, 0, 2]


@pytest.mark.parametrize(("keep_last", "sizes"), [(False, [4, 4, 4, 4]), (True, [4, 4, 4, 4, 2, 2])])
def test_candidates_of_a_group_share_a_draw_and_the_last_group_may_be_left_out(keep_last, sizes):
    images = images_of(10)
    images[1] = images[0]
    candidates = list(
        shared_crop_candidates(images, draws(0, "class", 3), group_size=4, num_crops=2, keep_last=keep_last)
    )
    assert [len(group) for group in candidates] == sizes
    assert all(torch.equal(group[0], group[1]) for group in candidates[:2])
    assert not torch.equal(candidates[0], candidates[1])


def test_mosaic_orders_deal_ranks_as_named():
    assert mosaic_ranks(2, 4, "edc").tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert mosaic_ranks(2, 4, "rded").tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    with pytest.raises(ValueError, match="order must be"):
        mosaic_ranks(2, 4, "other")  # type: ignore[arg-type]


@pytest.mark.parametrize("resize", ["nearest", "bilinear"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_cells_lie_row_by_row_and_the_first_take_the_rest_of_the_size(resize, dtype):
    crops = torch.arange(18).reshape(18, 1, 1, 1).expand(18, 1, 3, 3).to(dtype)
    mosaics = assemble_mosaics(crops, 2, 11, factor=3, resize=resize)
    lines = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    expected = lines[:, None] * 3 + lines
    assert mosaics.dtype == dtype
    torch.testing.assert_close(mosaics[0, 0].double(), expected.double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(mosaics[1, 0].double(), expected.double() + 9, rtol=0, atol=1e-5)


def test_too_few_crops_are_refused():
    with pytest.raises(ValueError, match="7 crops for 2 mosaics of 4"):
        assemble_mosaics(images_of(7), 2, 8)
