"""Initial images made of crops: which crops, in which cells, stored how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from edc_ray.artifacts.tables.codec import decode_image, encode_image
from edc_ray.core.views.crops import cross_entropy_of_each
from edc_ray.data.real.images import EncodedImages
from edc_ray.data.real.undecoded import Decoding, MemoryReader
from edc_ray.stages.init import mosaics
from edc_ray.stages.init.mosaics import mosaics_of_class
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.training import mean_and_std, normalised
from tests.stages.tiny_runs import decoded_from_now_on, units_of

Copied = Callable[..., StageContext]
FROM_INIT = ("init", "recover", "relabel", "evaluate")
SHARED = {"init__candidates": "shared_crops", "init__crop_group": 4, "init__crops_per_image": 3}


def test_a_mosaic_of_one_cell_holds_the_best_known_crop_first(copied: Copied) -> None:
    context = copied(*FROM_INIT, init__factor=1, ipc=8)
    observers = [context.observer(name) for name in context.config.observers_of("init")]
    for label in range(3):
        images = normalised(mosaics_of_class(context, label), context)
        with torch.no_grad():
            logits = torch.stack([observer(images) for observer in observers]).mean(0)
        losses = torch.nn.functional.cross_entropy(logits, torch.full((8,), label), reduction="none")
        # Stored in 8 bits, so sorted only up to the effect of half a grey level on a loss.
        assert (losses.diff() > -0.02).all()


def test_cells_of_a_mosaic_are_crops_of_the_class(copied: Copied) -> None:
    """Without a crop a cell is a whole image at half its size."""
    context = copied(*FROM_INIT, init__crop_scale=[1.0, 1.0], init__images_per_class=12)
    train = context.data.train
    pixels = torch.from_numpy(train.fetch(train.class_indices(0))).float()
    halves = torch.nn.functional.interpolate(
        pixels, size=(4, 4), mode="bilinear", antialias=True, align_corners=False
    ).numpy()
    cells = mosaics_of_class(context, 0).astype(np.float32).reshape(2, 1, 2, 4, 2, 4)
    for mosaic in cells.transpose(0, 2, 4, 1, 3, 5).reshape(8, 1, 4, 4):
        assert np.abs(halves - mosaic).max((1, 2, 3)).min() <= 0.51


def test_the_two_orders_deal_the_same_crops_differently(copied: Copied) -> None:
    edc, rded = (
        mosaics_of_class(copied(*FROM_INIT, init__mosaic_order=order, init__images_per_class=8), 1)
        for order in ("edc", "rded")
    )

    def cells(mosaics: np.ndarray) -> list[bytes]:
        cut = mosaics.reshape(2, 1, 2, 4, 2, 4).transpose(0, 2, 4, 1, 3, 5).reshape(8, 16)
        return sorted(cell.tobytes() for cell in cut)

    assert cells(edc) == cells(rded)
    assert not np.array_equal(edc, rded)


def test_crops_are_cut_out_of_whole_pictures(copied: Copied) -> None:
    context = copied(*FROM_INIT, init__crop_scale=[1.0, 1.0], init__images_per_class=12)
    squares = context.data.train.fetch(np.arange(len(context.data.train)))
    pictures = np.concatenate([squares, squares[..., ::-1]], axis=3)[:, 0]
    train = EncodedImages(
        MemoryReader(pictures, "wide"), np.arange(len(pictures)), context.data.train.labels,
        context.data.train.class_names, Decoding(1, 8, "square"), whole=True,
    )  # fmt: skip
    context = replace(context, data=replace(context.data, train=train))
    # The largest square crop of an 8 x 16 picture is its middle: half of the square and half of its mirror.
    members = torch.from_numpy(pictures[train.class_indices(0)][:, None, :, 4:12]).float()
    halves = torch.nn.functional.interpolate(
        members, size=(4, 4), mode="bilinear", antialias=True, align_corners=False
    ).numpy()
    cells = mosaics_of_class(context, 0).astype(np.float32).reshape(2, 1, 2, 4, 2, 4)
    for mosaic in cells.transpose(0, 2, 4, 1, 3, 5).reshape(8, 1, 4, 4):
        assert np.abs(halves - mosaic).max((1, 2, 3)).min() <= 0.51


def test_images_are_scored_in_chunks_that_change_nothing(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = copied(*FROM_INIT)
    whole = mosaics_of_class(context, 2)
    monkeypatch.setattr(mosaics, "_IMAGES_AT_ONCE", 4)
    np.testing.assert_array_equal(mosaics_of_class(context, 2), whole)


def test_an_image_is_decoded_once_for_all_its_crops(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mosaics of 36 cells of twelve images: three crops of each are the best of some turn."""
    context = copied(*FROM_INIT, ipc=4, init__factor=3, init__images_per_class=12)
    decoded = decoded_from_now_on(context, monkeypatch)
    monkeypatch.setattr(mosaics, "_IMAGES_AT_ONCE", 5)
    mosaics_of_class(context, 1)
    assert sorted(decoded) == context.data.train.class_indices(1).tolist()


def _candidates(context: StageContext, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Every crop that competes for a place in class 1 as it is scored, and the images crops were cut from."""
    crops, sources = [], []
    real = mosaics.shared_crop_candidates

    def spying(images: torch.Tensor, *rest: Any, **named: Any) -> Any:
        sources.append(images)
        for group in real(images, *rest, **named):
            crops.append(group)
            yield group

    monkeypatch.setattr(mosaics, "shared_crop_candidates", spying)
    mosaics_of_class(context, 1)
    return torch.cat(crops), torch.cat(sources)


def test_shared_crops_are_cut_from_the_images_that_are_known_best(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = copied(*FROM_INIT, **SHARED, init__images_per_class=8)
    crops, sources = _candidates(context, monkeypatch)
    assert (len(sources), len(crops)) == (8, 24)
    train = context.data.train
    members = train.fetch(train.class_indices(1))
    observers = [context.observer(name) for name in context.config.observers_of("init")]
    losses = cross_entropy_of_each(
        normalised(members, context), torch.ones(len(members), dtype=torch.int64), observers
    )
    best = torch.from_numpy(members[losses.argsort()[:8].numpy()]) / 255
    torch.testing.assert_close(sources, best)


@pytest.mark.parametrize(("drop", "count"), [(False, 30), (True, 24)])
def test_a_last_small_group_is_cropped_or_left_out(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, drop: bool, count: int
) -> None:
    context = copied(*FROM_INIT, **SHARED, init__images_per_class=10, init__drop_last_group=drop)
    crops, _ = _candidates(context, monkeypatch)
    assert len(crops) == count


def test_a_class_that_fills_no_group_is_cropped_all_the_same(copied: Copied) -> None:
    context = copied(*FROM_INIT, **SHARED | {"init__crop_group": 64}, init__drop_last_group=True)
    assert mosaics_of_class(context, 0).shape == (2, 1, 8, 8)


def test_the_best_shared_crop_stands_in_the_first_cell(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = copied(*FROM_INIT, **SHARED, init__factor=1, ipc=3, init__image_rounding="trunc")
    crops, _ = _candidates(context, monkeypatch)
    observers = [context.observer(name) for name in context.config.observers_of("init")]
    as_bytes = (crops * 255).to(torch.uint8)
    mean, std = mean_and_std(context)
    losses = cross_entropy_of_each(
        (crops - mean[0]) / std[0], torch.ones(len(crops), dtype=torch.int64), observers
    )
    expected = as_bytes[losses.argsort(stable=True)[:3]].numpy()
    np.testing.assert_array_equal(mosaics_of_class(context, 1), expected)


def test_crops_that_are_stored_as_jpeg_come_back_as_jpeg_shows_them(copied: Copied) -> None:
    plain, stored = (
        mosaics_of_class(copied(*FROM_INIT, **SHARED, init__factor=1, init__image_format=kind), 0)
        for kind in ("png", "jpeg")
    )
    assert not np.array_equal(plain, stored)
    np.testing.assert_array_equal(stored, [decode_image(encode_image(image, "jpeg")) for image in plain])


def test_a_larger_ipc_adds_shared_crops_behind_those_there_are(copied: Copied) -> None:
    few, many = (mosaics_of_class(copied(*FROM_INIT, **SHARED, ipc=ipc), 2) for ipc in (2, 9))
    np.testing.assert_array_equal(many[:2], few)


def test_cells_of_another_size_than_their_crops_may_repeat_pixels(copied: Copied) -> None:
    """Cells of 3, 3 and 2 pixels for crops of 2."""
    smooth, nearest = (
        mosaics_of_class(
            copied(*FROM_INIT, init__factor=3, init__mosaic_order="rded", init__crop_resize=way), 0
        )
        for way in ("bilinear", "nearest")
    )
    assert not np.array_equal(smooth, nearest)
    np.testing.assert_array_equal(nearest[:, :, 0], nearest[:, :, 1])


def test_candidates_are_part_of_the_fingerprint(copied: Copied) -> None:
    assert units_of(copied(*FROM_INIT), "init")[0].fingerprint != (
        units_of(copied(*FROM_INIT, **SHARED), "init")[0].fingerprint
    )
