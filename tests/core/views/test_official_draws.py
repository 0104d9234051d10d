from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from edc_ray.core.views.official_draws import (
    coordinates_from_views,
    official_counted_choices,
    official_cutmix,
    official_relabel_orders,
    official_replay,
    official_view,
    views_from_coordinates,
)


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.5, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("size", [(32, 32), (20, 90)])
def test_a_view_equals_torchvisions_draw_from_the_same_generator_state(size, scale):
    for seed in range(10):
        view = official_view(size, scale, torch.Generator().manual_seed(seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            ratio = [3 / 4, 4 / 3]
            box = RandomResizedCrop.get_params(torch.empty(3, *size), list(scale), ratio)
            flip = bool(torch.rand(1) < 0.5)
        assert [int(v) for v in (view.top, view.left, view.height, view.width)] == list(box)
        assert bool(view.flip) == flip


@pytest.mark.parametrize("size", [32, 64, 128, 224])
@pytest.mark.parametrize("order", ["crossed", "straight"])
def test_every_coordinate_of_the_official_sizes_survives_the_label_file(size, order):
    values = torch.arange(size + 1)
    stored = (values.double() / size).float()[:, None].expand(-1, 4)
    views = views_from_coordinates(stored, torch.zeros(size + 1), (size, size), order)
    assert torch.equal(views.top, values)
    assert torch.equal(views.width, values)
    assert torch.equal(coordinates_from_views(views, (size, size), order), stored)


def test_coordinate_orders_differ_on_images_that_are_not_square():
    view = official_view((20, 40), (0.3, 0.5), torch.Generator().manual_seed(1))
    for order in ("crossed", "straight"):
        stored = coordinates_from_views(view, (20, 40), order)
        assert int(views_from_coordinates(stored, view.flip, (20, 40), order).height) == int(view.height)
    straight, crossed = (coordinates_from_views(view, (20, 40), order) for order in ("straight", "crossed"))
    assert not torch.equal(straight, crossed)


def test_replay_keeps_the_dtype_and_takes_the_asked_size():
    image = torch.arange(3 * 20 * 20).reshape(3, 20, 20).to(torch.uint8)
    view = official_view((20, 20), (0.5, 1.0), torch.Generator().manual_seed(0))
    for source in (image, image.float()):
        replayed = official_replay(source, view, 11)
        assert replayed.dtype == source.dtype
        assert replayed.shape == (3, 11, 11)


def test_used_files_are_drawn_less_often():
    choices = official_counted_choices([0] * 40, [4], np.random.RandomState(0))
    assert np.ptp(np.bincount(choices, minlength=4)) <= 4


def test_global_generators_stay_untouched():
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    generator, rng = torch.Generator().manual_seed(0), np.random.RandomState(0)
    official_view((8, 8), (0.5, 1.0), generator)
    official_cutmix(4, 8, 8, 1.0, generator, rng)
    list(islice(official_relabel_orders(5, 0), 2))
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert (np.random.get_state()[1] == numpy_before).all()  # type: ignore[index]
