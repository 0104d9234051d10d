from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from edc_ray.core.pixels import from_uint8, normalise
from edc_ray.core.seeding import draws
from edc_ray.core.views.augment import apply_views
from edc_ray.core.views.official_views import official_relabel_orders
from edc_ray.core.views.rand_augment import apply_rand_augment
from edc_ray.core.views.views import (
    EpochViews,
    Mix,
    ViewSettings,
    draw_epoch_views,
    joined_views,
    render_views,
)
from tests.core.shuffled_bands import shuffle_bands

SIZE, MEAN, STD = 12, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
KEYS = [(label, ipc_id) for label in range(5) for ipc_id in range(3)]
MIXES: list[Mix] = ["cutmix", "mixup", "none"]
MORE = {"patch_shuffle": 3, "rand_augment": True}


def images_of(count: int = len(KEYS)) -> torch.Tensor:
    return torch.from_numpy(draws(3, "images").integers(256, count, 3, SIZE, SIZE).astype(np.uint8))


def views_of(mix: Mix = "cutmix", epoch: int = 0, keys: list[tuple[int, int]] = KEYS, **fields) -> EpochViews:
    settings = ViewSettings(**{"crop_scale": (0.3, 1.0), "mix": mix, "mix_group": 6, **fields})
    return draw_epoch_views(7, epoch, keys, SIZE, settings)


def rendered(views: EpochViews, rows: list[int] | np.ndarray) -> torch.Tensor:
    return render_views(images_of(), views, np.asarray(rows), mean=MEAN, std=STD)


def crops_by_key(views: EpochViews, keys: list[tuple[int, int]] = KEYS) -> dict[tuple[int, int], list[int]]:
    crops = views.crops
    columns = torch.stack([crops.top, crops.left, crops.height, crops.width, crops.flip.long()], dim=1)
    return {keys[image]: row for image, row in zip(views.image, columns.tolist(), strict=True)}


def parameters(views: EpochViews) -> list[list]:
    arrays = (views.image, views.group, views.partner, views.box, views.lam)
    return [*(array.tolist() for array in arrays), list(crops_by_key(views).values())]


@pytest.mark.parametrize("fields", [{}, MORE], ids=["plain", "more"])
@pytest.mark.parametrize("mix", MIXES)
def test_bits_of_a_view_do_not_depend_on_the_batch_it_is_rendered_in(mix: Mix, fields: dict) -> None:
    views = views_of(mix, **fields)
    whole = rendered(views, np.arange(len(views)))
    assert whole.shape == (15, 3, SIZE, SIZE)
    assert whole.dtype == torch.float32
    for rows in ([4], [14, 0, 7], [2, 2], list(range(5, 12))):
        assert torch.equal(rendered(views, rows), whole[rows])


@pytest.mark.parametrize("mix", MIXES)
def test_views_drawn_to_relabel_and_views_replayed_to_train_have_the_same_bits(mix: Mix) -> None:
    relabelled, again = views_of(mix), views_of(mix)
    assert parameters(again) == parameters(relabelled)
    shuffled = draws(1).permutation(len(again))
    assert torch.equal(rendered(again, shuffled), rendered(relabelled, np.arange(15))[shuffled])


@pytest.mark.parametrize("mix", MIXES)
def test_an_epoch_is_the_same_whichever_epochs_are_drawn_before_it(mix: Mix) -> None:
    alone = views_of(mix, epoch=3)
    last = [views_of(mix, epoch=epoch) for epoch in range(4)][-1]
    assert parameters(last) == parameters(alone)
    assert parameters(views_of(mix, epoch=2)) != parameters(alone)


def test_more_images_change_no_crop_of_those_that_were_there() -> None:
    more = [*KEYS[:3], (0, 3), *KEYS[3:], (9, 0)]
    before, after = crops_by_key(views_of()), crops_by_key(views_of(keys=more), more)
    assert {key: after[key] for key in KEYS} == before
    assert len(after) == 17


@pytest.mark.parametrize("fields", [{}, MORE], ids=["plain", "more"])
@pytest.mark.parametrize("mix", MIXES)
def test_joined_epochs_have_the_bits_of_each(mix: Mix, fields: dict) -> None:
    one, other = views_of(mix, 1, **fields), views_of(mix, 2, KEYS[:7], **fields)
    joined = joined_views([one, other, one], [0, 8, 3])
    moved = replace(other, image=other.image + 8), replace(one, image=(one.image + 3) % 15)
    expected = torch.cat([rendered(each, np.arange(len(each))) for each in (one, *moved)])
    joined = replace(joined, image=joined.image % 15)
    assert torch.equal(rendered(joined, np.arange(37)), expected)
    assert torch.equal(rendered(joined, [36, 0, 20]), expected[[36, 0, 20]])
    groups = [set(joined.group[rows].tolist()) for rows in (slice(0, 15), slice(15, 22), slice(22, 37))]
    assert [len(each) for each in groups] == [3, 2, 3]
    assert len(set.union(*groups)) == 8


def test_an_epoch_shows_each_image_once_in_a_drawn_order() -> None:
    views = views_of()
    assert len(views) == 15
    assert sorted(views.image.tolist()) == list(range(15))
    assert views.image.tolist() != list(range(15))
    assert views.image.tolist() != views_of(epoch=1).image.tolist()


@pytest.mark.parametrize("mix", MIXES)
def test_groups_are_consecutive_rows_and_the_last_may_be_short(mix: Mix) -> None:
    assert views_of(mix).group.tolist() == [0] * 6 + [1] * 6 + [2] * 3


@pytest.mark.parametrize("mix", ["cutmix", "mixup"])
def test_a_group_shares_one_box_and_lam_and_its_partners_are_its_own_rows(mix: Mix) -> None:
    views = views_of(mix)
    for group in range(3):
        rows = np.flatnonzero(views.group == group)
        assert len(np.unique(views.box[rows], axis=0)) == len(np.unique(views.lam[rows])) == 1
        assert sorted(views.partner[rows].tolist()) == rows.tolist()
    assert len(np.unique(views.lam)) == 3


def test_cutmix_shows_the_partner_inside_the_box_and_the_own_view_outside() -> None:
    views = views_of("cutmix")
    assert (views.box[:, 1] > views.box[:, 0]).any()
    rows = np.arange(len(views))
    own = rendered(replace(views, mix="none"), rows)
    mixed = rendered(views, rows)
    for row, (row0, row1, column0, column1) in enumerate(views.box):
        expected = own[row].clone()
        inside = (slice(None), slice(row0, row1), slice(column0, column1))
        expected[inside] = own[views.partner[row]][inside]
        assert torch.equal(mixed[row], expected)


def test_mixup_blends_the_two_views_by_lam() -> None:
    views = views_of("mixup")
    rows = np.arange(len(views))
    own = rendered(replace(views, mix="none"), rows)
    lam = torch.from_numpy(views.lam).float().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(rendered(views, rows), lam * own + (1 - lam) * own[views.partner])
    assert (views.box == 0).all()
    assert ((views.lam > 0) & (views.lam < 1)).all()


def test_without_mixing_a_view_is_the_normalised_crop_of_its_image() -> None:
    views = views_of("none")
    assert views.partner.tolist() == list(range(15))
    assert (views.box == 0).all()
    assert (views.lam == 1).all()
    pixels = from_uint8(images_of()[torch.from_numpy(views.image)])
    assert torch.equal(rendered(views, np.arange(15)), normalise(apply_views(pixels, views.crops), MEAN, STD))


def test_mixing_changes_no_crop() -> None:
    assert (
        crops_by_key(views_of("none")) == crops_by_key(views_of("cutmix")) == crops_by_key(views_of("mixup"))
    )


@pytest.mark.parametrize(("probability", "flips"), [(0.0, {0}), (1.0, {1}), (0.5, {0, 1})])
def test_images_are_flipped_with_the_given_probability(probability: float, flips: set[int]) -> None:
    assert {crop[-1] for crop in crops_by_key(views_of(flip_probability=probability)).values()} == flips


def test_another_seed_draws_other_views() -> None:
    settings = ViewSettings(mix_group=6)
    first, second = (draw_epoch_views(seed, 0, KEYS, SIZE, settings) for seed in (0, 1))
    assert parameters(first)[0] != parameters(second)[0]
    assert crops_by_key(first) != crops_by_key(second)


def test_a_group_larger_than_the_set_is_one_group() -> None:
    assert views_of(mix_group=100).group.tolist() == [0] * 15


def test_an_epoch_of_no_images_is_empty() -> None:
    views = views_of(keys=[])
    assert len(views) == 0
    assert views.box.shape == (0, 4)


def test_shuffled_bands_and_changed_colours_come_before_the_crop_and_change_no_other_draw() -> None:
    plain, more = views_of("none"), views_of("none", **MORE)
    assert more.changes is not None
    assert more.bands is not None
    assert parameters(more) == parameters(plain)
    images = images_of()[torch.from_numpy(more.image)]
    changed = shuffle_bands(apply_rand_augment(images, more.changes), more.bands)
    expected = normalise(apply_views(from_uint8(changed), more.crops), MEAN, STD)
    assert torch.equal(rendered(more, np.arange(15)), expected)
    assert not torch.equal(rendered(plain, np.arange(15)), expected)


def test_more_images_change_no_bands_and_no_operations_of_those_that_were_there() -> None:
    few, many = views_of(**MORE), views_of(keys=[*KEYS, (9, 0)], **MORE)
    place = {int(image): row for row, image in enumerate(many.image)}
    rows = np.array([place[int(image)] for image in few.image])
    assert few.bands is not None and many.bands is not None  # noqa: PT018
    np.testing.assert_array_equal(few.bands.rows, many.bands.rows[rows])
    assert few.changes is not None and many.changes is not None  # noqa: PT018
    np.testing.assert_array_equal(few.changes.operation, many.changes.operation[rows])


@pytest.mark.parametrize("epoch", [0, 2])
def test_groups_are_dealt_in_the_order_of_the_official_sampler(epoch: int) -> None:
    shuffled = [KEYS[index] for index in draws(0, "keys").permutation(len(KEYS))]
    views = views_of(epoch=epoch, keys=shuffled, order_seed=42)
    files = sorted(KEYS)
    order = list(islice(official_relabel_orders(len(files), 42), epoch + 1))[epoch].tolist()
    assert [shuffled[image] for image in views.image] == [files[place] for place in order]
    assert crops_by_key(views, shuffled) == crops_by_key(views_of(epoch=epoch))


def test_the_official_order_reads_and_changes_no_global_random_state() -> None:
    before = torch.get_rng_state()
    first = parameters(views_of(order_seed=42))
    torch.manual_seed(5)
    assert parameters(views_of(order_seed=42)) == first
    torch.set_rng_state(before)
    views_of(order_seed=42)
    assert torch.equal(torch.get_rng_state(), before)
    assert parameters(views_of(order_seed=43)) != first
