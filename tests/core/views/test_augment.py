from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from edc_ray.core.seeding import Draws, draws
from edc_ray.core.views.augment import (
    AugmentParams,
    apply_crop_pad,
    apply_shared_view,
    apply_views,
    central_box,
    sample_crop_pad,
    sample_views,
)
from tests.core.whole_view import whole_view

SIZES = [(1, 1), (7, 5), (33, 47), (32, 32)]


def images_of(batch: int, channels: int, size: tuple[int, int]) -> torch.Tensor:
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(batch))


def streams(batch: int) -> list[Draws]:
    return [draws(0, "view", i) for i in range(batch)]


def columns(params: AugmentParams) -> list[list[int]]:
    return [t.tolist() for t in (params.top, params.left, params.height, params.width, params.flip)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_bits_of_a_view_do_not_depend_on_the_batch_it_is_in(size, channels):
    images, params = images_of(64, channels, size), sample_views(streams(64), 64, size, (0.08, 1.0))
    pads = sample_crop_pad(streams(64), 64, size, 4)
    whole, padded = apply_views(images, params), apply_crop_pad(images, pads)
    for batch in (1, 7):
        for start in (0, 3, 64 - batch):
            rows = slice(start, start + batch)
            assert torch.equal(apply_views(images[rows], params[rows]), whole[rows])
            assert torch.equal(apply_crop_pad(images[rows], pads[rows]), padded[rows])
    order = torch.from_numpy(draws(0, "order").permutation(64))
    assert torch.equal(apply_views(images[order], params[order]), whole[order])


def test_parameters_of_an_image_do_not_depend_on_the_batch_it_is_in():
    together = sample_views(streams(7), 7, 32, (0.08, 1.0))
    for i in range(7):
        alone = sample_views([draws(0, "view", i)], 1, 32, (0.08, 1.0))
        assert columns(alone) == columns(together[[i]])


def test_one_stream_for_a_batch_gives_its_first_rows_whatever_the_batch():
    assert columns(sample_views(draws(1), 3, 32, (0.5, 1.0))) == columns(
        sample_views(draws(1), 9, 32, (0.5, 1.0))[:3]
    )


@pytest.mark.parametrize("size", SIZES)
def test_views_equal_torchvisions_resized_crop(size):
    images, params = images_of(20, 3, size), sample_views(streams(20), 20, size, (0.08, 1.0))
    views = apply_views(images, params)
    for i, (top, left, height, width, flip) in enumerate(zip(*columns(params), strict=True)):
        expected = TF.resized_crop(images[i : i + 1], top, left, height, width, list(size), antialias=True)
        expected = expected.flip(-1) if flip else expected
        torch.testing.assert_close(views[i : i + 1], expected, rtol=0, atol=1e-6)
        shared = apply_shared_view(images[i : i + 1], params[[i]])
        torch.testing.assert_close(
            shared, expected, rtol=0, atol=3e-6
        )  # torch resizes in one of several ways


def test_the_whole_view_leaves_images_as_they_are():
    images = images_of(3, 3, (6, 9))
    assert torch.equal(apply_views(images, whole_view(3, 6, 9)), images)
    assert torch.equal(apply_shared_view(images, whole_view(1, 6, 9)), images)


@pytest.mark.parametrize(
    ("size", "ratio"), [((32, 32), (0.75, 4 / 3)), ((90, 60), (0.5, 0.6)), ((32, 32), (1, 1))]
)
def test_boxes_lie_inside_the_image_and_within_scale_and_ratio(size, ratio):
    params = sample_views(draws(2), 400, size, (0.25, 0.6), ratio)
    area = params.height * params.width / (size[0] * size[1])
    assert (params.top >= 0).all()
    assert (params.left >= 0).all()
    assert (params.top + params.height <= size[0]).all()
    assert (params.left + params.width <= size[1]).all()
    assert ((area > 0.22) & (area < 0.64)).all()
    shape = params.width / params.height
    assert ((shape > 0.9 * ratio[0]) & (shape < 1.1 * ratio[1])).all()
    assert 0.35 < params.flip.float().mean() < 0.65


@pytest.mark.parametrize(
    ("size", "expected"), [((10, 100), (10, 13)), ((100, 10), (13, 10)), ((30, 32), (30, 32))]
)
def test_the_central_box_keeps_the_ratio(size, expected):
    assert central_box(size, (3 / 4, 4 / 3)) == expected


def test_a_box_that_never_fits_falls_back_to_the_central_one():
    params = sample_views(draws(0), 5, (10, 100), (1.0, 1.0))
    assert columns(params)[:4] == [[0] * 5, [43] * 5, [10] * 5, [13] * 5]


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_flips_follow_their_probability(probability):
    assert (
        sample_views(draws(0), 50, 8, (0.5, 1.0), flip_probability=probability).flip.float().mean()
        == probability
    )


def test_a_shared_view_is_one_view_and_its_gradient_reaches_the_box():
    view = sample_views(draws(4), 1, 16, (0.3, 0.5))
    images = images_of(2, 3, (16, 16)).requires_grad_()
    apply_shared_view(images, view).sum().backward()
    assert images.grad is not None
    touched = images.grad[0, 0] != 0
    box = torch.zeros(16, 16, dtype=torch.bool)
    box[view.top : view.top + view.height, view.left : view.left + view.width] = True
    assert torch.equal(touched, box)


@pytest.mark.parametrize("fill", [0.0, torch.tensor([-1.0, -2.0, -3.0])])
def test_padded_crops_equal_a_crop_of_the_padded_image(fill):
    images, params = images_of(12, 3, (9, 7)), sample_crop_pad(streams(12), 12, (9, 7), 4)
    value = torch.as_tensor(fill).reshape(-1, 1, 1)
    padded = value.expand(3, 9 + 8, 7 + 8).expand(12, -1, -1, -1).clone()
    padded[..., 4:13, 4:11] = images
    views = apply_crop_pad(images, params, fill)
    for i, (top, left, _, _, flip) in enumerate(zip(*columns(params), strict=True)):
        expected = padded[i, :, top + 4 : top + 13, left + 4 : left + 11]
        assert torch.equal(views[i], expected.flip(-1) if flip else expected)


def test_padded_crops_take_every_shift():
    params = sample_crop_pad(draws(9), 300, 32, 2)
    assert set(params.top.tolist()) == set(params.left.tolist()) == {-2, -1, 0, 1, 2}


def test_no_views_of_no_images_are_empty():
    assert apply_views(torch.empty(0, 3, 8, 8), sample_views([], 0, 8, (0.5, 1.0))).shape == (0, 3, 8, 8)


def test_wrong_numbers_of_streams_images_and_views_are_refused():
    with pytest.raises(ValueError, match="one stream for each image"):
        sample_views(streams(2), 3, 8, (0.5, 1.0))
    with pytest.raises(ValueError, match="2 images and 3 views"):
        apply_views(images_of(2, 3, (8, 8)), sample_views(draws(0), 3, 8, (0.5, 1.0)))
    with pytest.raises(ValueError, match="one view"):
        apply_shared_view(images_of(2, 3, (8, 8)), sample_views(draws(0), 2, 8, (0.5, 1.0)))


@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.0, 1.0), (1, 1)), ((0.9, 0.5), (1, 1)), ((0.5, 1.0), (2, 1))]
)
def test_ranges_that_are_not_positive_and_increasing_are_refused(scale, ratio):
    with pytest.raises(ValueError, match="positive and increasing"):
        sample_views(draws(0), 1, 8, scale, ratio)


@pytest.mark.parametrize("sizes", [[3, 5, 1], [4]])
def test_views_of_several_batches_are_those_of_each_by_itself(sizes: list[int]) -> None:
    def views(which: list[int]) -> list[AugmentParams]:
        batches, keys = [sizes[place] for place in which], [draws(1, "batch", place) for place in which]
        return [
            sample_views(keys, batches, 32, (0.1, 1.0)),
            sample_crop_pad([draws(2, place) for place in which], batches, 32, 4),
        ]

    alone = [views([place]) for place in range(len(sizes))]
    for kind, together in enumerate(views(list(range(len(sizes))))):
        for name, values in vars(together).items():
            assert torch.equal(values, torch.cat([getattr(each[kind], name) for each in alone]))
    whole = sample_views(draws(1, "batch", 0), sizes[0], 32, (0.1, 1.0))
    assert all(torch.equal(values, getattr(alone[0][0], name)) for name, values in vars(whole).items())
    with pytest.raises(ValueError, match="one stream for each batch: got 1 for 2 batches"):
        sample_crop_pad(draws(1), [2, 2], 32, 4)
