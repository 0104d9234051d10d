from __future__ import annotations

from itertools import product

import pytest
import torch

pytest.importorskip("triton")

from edc_ray.kernels.cuda.launches import Lie, cut_of, lie_of, power_of_two, tiles_of
from edc_ray.kernels.cuda.measuring_pass import NOTHING, STRETCHED, WHOLE


def test_programs_cover_every_image_channel_and_row_once() -> None:
    for images, channels, side, in_tiles in product((1, 3, 80), (1, 24, 1280), (1, 7, 112), (False, True)):
        cut = cut_of(images, channels, side, side, True, in_tiles=in_tiles)
        assert (cut.groups - 1) * cut.group_images < images <= cut.groups * cut.group_images
        assert (cut.channel_blocks - 1) * cut.block_channels < channels
        assert cut.block_width >= cut.width
        assert cut.height * cut.width == side * side
        assert cut.block_channels * cut.block_rows * cut.block_width <= 8192


def test_images_by_themselves_are_groups_of_one() -> None:
    assert cut_of(7, 8, 5, 5, True, in_tiles=False, each=True).groups == 7


def test_tiles_are_whole_where_sides_are_multiples() -> None:
    cpu = torch.device("cpu")
    assert tiles_of(8, 8, None, cpu).kind == NOTHING
    assert (tiles_of(8, 12, 4, cpu).kind, tiles_of(8, 12, 4, cpu).count) == (WHOLE, 6)
    assert (tiles_of(1, 1, 4, cpu).kind, tiles_of(9, 8, 4, cpu).count) == (STRETCHED, 6)


def test_how_an_input_lies() -> None:
    x = torch.zeros(2, 6, 4, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    assert lie_of(x) == Lie(False, 120, 1)
    assert lie_of(last) == Lie(True, 120, 6)
    assert lie_of(last[:, 2:5]) == Lie(True, 120, 6)
    assert lie_of(x[:, :, :, ::2]) is None
    assert Lie(True, 120, 6).vector(6) == 2
    assert [power_of_two(each) for each in (1, 2, 3, 224)] == [1, 2, 4, 256]
