"""The official programs' views are torchvision's draws."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from tests.goldens.official_draws import official_view


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.5, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("size", [(32, 32), (20, 90)])
def test_a_view_equals_torchvisions_draw_from_the_same_generator_state(
    size: tuple[int, int], scale: tuple[float, float]
) -> None:
    for seed in range(10):
        view = official_view(size, scale, torch.Generator().manual_seed(seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            box = RandomResizedCrop.get_params(torch.empty(3, *size), list(scale), [3 / 4, 4 / 3])
            flip = bool(torch.rand(1) < 0.5)
        assert [int(v) for v in (view.top, view.left, view.height, view.width)] == list(box)
        assert bool(view.flip) == flip
