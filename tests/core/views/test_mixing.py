from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edc_ray.core.seeding import draws
from edc_ray.core.views.mixing import (
    CutMixParams,
    MixUpParams,
    apply_cutmix_rows,
    apply_mixup_rows,
    cutmix_box,
    sample_cutmix,
    sample_mixup,
)
from tests.core.mixed_groups import mixed_group


def images_of(batch: int) -> torch.Tensor:
    return torch.rand(batch, 3, 9, 6, generator=torch.Generator().manual_seed(batch))


def test_groups_mixed_apart_equal_one_batch_across_groups():
    images, sizes = images_of(13), (5, 1, 7)
    cut, cut_boxes, blended, lams, partners = [], [], [], [], []
    for group, part in enumerate(images.split(sizes)):
        start = sum(sizes[:group])
        cutmix, mixup = (
            sample_cutmix(draws(group), len(part), 9, 6, 1.0),
            sample_mixup(draws(group), len(part), 0.8),
        )
        assert torch.equal(cutmix.partner, mixup.partner)
        cut.append(mixed_group(part, cutmix))
        blended.append(mixed_group(part, mixup))
        cut_boxes += [cutmix.box] * len(part)
        lams += [mixup.lam] * len(part)
        partners.append(cutmix.partner + start)
    partner_images = images[torch.cat(partners)]
    assert torch.equal(apply_cutmix_rows(images, partner_images, torch.tensor(cut_boxes)), torch.cat(cut))
    rows = apply_mixup_rows(images, partner_images, torch.tensor(lams, dtype=torch.float64))
    assert torch.equal(rows, torch.cat(blended))


def test_cutmix_pastes_the_unmixed_partner_and_leaves_its_input_alone():
    images = images_of(2)
    before = images.clone()
    mixed = mixed_group(images, CutMixParams(torch.tensor([1, 0]), (2, 5, 1, 4), 0.5))
    assert torch.equal(images, before)
    assert torch.equal(mixed[0, :, 2:5, 1:4], before[1, :, 2:5, 1:4])
    assert torch.equal(mixed[1, :, 2:5, 1:4], before[0, :, 2:5, 1:4])
    mixed[..., 2:5, 1:4] = before[..., 2:5, 1:4]
    assert torch.equal(mixed, before)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.data())
@settings(max_examples=50, deadline=None)
def test_a_box_lies_inside_the_image_and_is_no_larger_than_its_share(height, width, lam, data):
    centre = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    row0, row1, column0, column1 = cutmix_box(height, width, lam, centre)
    assert 0 <= row0 <= row1 <= height
    assert 0 <= column0 <= column1 <= width
    assert (row1 - row0) * (column1 - column0) <= (1 - lam) * height * width + 1e-9


def test_a_box_cut_off_at_a_corner_keeps_its_inner_quarter():
    assert cutmix_box(10, 20, 0.0, (0, 19)) == (0, 5, 9, 20)


def test_lam_of_one_leaves_images_as_they_are():
    images = images_of(3)
    partner = torch.tensor([1, 2, 0])
    assert torch.equal(mixed_group(images, MixUpParams(partner, 1.0)), images)
    assert torch.equal(mixed_group(images, CutMixParams(partner, cutmix_box(9, 6, 1.0, (4, 4)), 1.0)), images)
