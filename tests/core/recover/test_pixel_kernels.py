from __future__ import annotations

import torch

from edc_ray.core.recover.pixel_kernels import TORCH_PIXEL_KERNELS, shared_view
from edc_ray.core.seeding import draws
from edc_ray.core.views.augment import apply_shared_view, sample_views


def test_a_view_of_a_box_on_the_device_is_the_one_of_a_box_on_the_host() -> None:
    generator = torch.Generator().manual_seed(0)
    images, upstream = (torch.randn(2, 3, 12, 10, generator=generator) for _ in range(2))
    images.requires_grad_()
    for number in range(8):
        params = sample_views(draws(0, number), 1, (12, 10), (0.08, 1.0))
        numbers = (params.top, params.left, params.height, params.width, params.flip)
        box = torch.cat([each.int() for each in numbers])
        plain = apply_shared_view(images, params)
        ours = shared_view(images, box, TORCH_PIXEL_KERNELS, torch.contiguous_format)
        torch.testing.assert_close(ours, plain, rtol=0, atol=4e-6)
        by_plain, by_ours = (
            torch.autograd.grad((each * upstream).sum(), images)[0] for each in (plain, ours)
        )
        torch.testing.assert_close(by_ours, by_plain, rtol=0, atol=1e-5)


def test_a_step_is_torchs_adam_and_then_the_bounds() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 4, 4, generator=generator)
    parameter = torch.nn.Parameter(images.clone())
    optimizer = torch.optim.Adam([parameter], lr=0.05, betas=(0.5, 0.9))
    moments = torch.zeros_like(images), torch.zeros_like(images)
    edges = torch.full((3, 1, 1), 1.0)
    for number in range(1, 4):
        parameter.grad = torch.randn(images.shape, generator=generator)
        rates = torch.tensor([0.05 / (1 - 0.5**number), (1 - 0.9**number) ** 0.5])
        TORCH_PIXEL_KERNELS.step(images, moments, parameter.grad, rates, (-edges, edges), (0.5, 0.9))
        optimizer.step()
        parameter.data.clamp_(-1, 1)
    torch.testing.assert_close(images, parameter.data, rtol=1e-5, atol=1e-6)
