from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from edc_ray.kernels.cuda import pixels, statistics
from edc_ray.kernels.cuda.registration import LAUNCHES, operation


def test_each_operation_says_how_many_kernels_it_starts() -> None:
    assert pixels.TritonPixelKernels
    assert statistics.TritonKernels
    assert all(hasattr(torch.ops.edc_ray, name) for name in LAUNCHES)
    with pytest.raises(AssertionError, match="does not say how many"):
        operation("unknown", "(Tensor x) -> Tensor", torch.neg, torch.neg)(torch.neg)


def test_the_result_without_numbers_is_like_the_result() -> None:
    x = torch.randn(2, 3, 5, 6).contiguous(memory_format=torch.channels_last)
    for side, each in ((0, False), (4, True)):
        found = torch.ops.edc_ray.moments(x, side, each, torch.float32)
        fake = torch.ops.edc_ray.moments(x.to("meta"), side, each, torch.float32)
        assert (fake.shape, fake.dtype) == (found.shape, found.dtype)
    formula = (torch.ones(3), torch.zeros(3), 1)
    on_meta = (x.to("meta"), torch.ones(3, device="meta"), torch.zeros(3, device="meta"), 1)
    for found, fake in zip(
        torch.ops.edc_ray.norm_moments(x, *formula, False, torch.float32),
        torch.ops.edc_ray.norm_moments(*on_meta, False, torch.float32),
        strict=True,
    ):
        assert (fake.shape, fake.dtype, fake.stride()) == (found.shape, found.dtype, found.stride())
