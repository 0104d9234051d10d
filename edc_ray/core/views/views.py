"""The augmented, mixed views of one epoch, as parameters that are drawn once and replayed anywhere.

N images have one view each. Each row pastes or blends in the un-mixed view of another row of its mixing
group. Relabelling draws and renders, training only renders. Both see the same bits in any batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from edc_ray.core.seeding import Draws, draws, draws_of_each
from edc_ray.core.views.augment import AugmentParams, sample_views
from edc_ray.core.views.cut_views import ViewCutter, Window
from edc_ray.core.views.mixing import apply_cutmix_rows, apply_mixup_rows, sample_cutmix, sample_mixup
from edc_ray.core.views.official_views import official_relabel_orders
from edc_ray.core.views.patch_shuffle import BandOrders, sample_band_orders
from edc_ray.core.views.rand_augment import RandAugmentParams, apply_rand_augment, sample_rand_augment
from edc_ray.core.views.settings import Mix, RelabelSettings

# If rows and partners together are at most this many times the rows, each is made once and kept.
_FEW_MORE = 1.3


class ViewSettings(RelabelSettings):
    """How views are drawn. `flip_probability` is 0 if a mirrored image belongs to another class."""

    flip_probability: float = 0.5


@dataclass(frozen=True)
class EpochViews:
    """Parameters of one epoch's N views, in the order of mixing groups."""

    image: np.ndarray  # int64 [N]
    crops: AugmentParams
    mix: Mix
    group: np.ndarray  # int64 [N]
    partner: np.ndarray  # int64 [N], the row that is mixed in
    box: np.ndarray  # int64 [N, 4], (row0, row1, column0, column1) of the partner; empty without CutMix
    lam: np.ndarray  # float64 [N], share of the own view in a blend; as drawn with CutMix; 1 without mixing
    bands: BandOrders | None = None
    changes: RandAugmentParams | None = None

    def __len__(self) -> int:
        return len(self.image)


def joined_views(parts: Sequence[EpochViews], first_image: Sequence[int]) -> EpochViews:
    """The views of several epochs, drawn with the same settings, one after the other.

    first_image: what is added to each part's `image`: where its images begin among those of all.
    """
    first_row = np.cumsum([0, *map(len, parts)])

    def joined(name: str, added: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        values = [getattr(part, name) for part in parts]
        return np.concatenate(
            values if added is None else [own + more for own, more in zip(values, added, strict=True)]
        )

    def joined_fields(name: str) -> dict[str, np.ndarray] | None:
        values = [getattr(part, name) for part in parts]
        if values[0] is None:
            return None
        return {field: np.concatenate([vars(each)[field] for each in values]) for field in vars(values[0])}

    bands, changes = joined_fields("bands"), joined_fields("changes")
    return EpochViews(
        image=joined("image", first_image),
        crops=AugmentParams(**{
            field: torch.cat([vars(part.crops)[field] for part in parts]) for field in vars(parts[0].crops)
        }),
        mix=parts[0].mix, group=joined("group", first_row[:-1]), partner=joined("partner", first_row[:-1]),
        box=joined("box"), lam=joined("lam"),
        bands=None if bands is None else BandOrders(**bands),
        changes=None if changes is None else RandAugmentParams(**changes),
    )  # fmt: skip


def draw_epoch_views(
    seed: int, epoch: int, keys: Sequence[tuple[int, int]], image_size: int, settings: ViewSettings
) -> EpochViews:
    """Draw the views of one epoch, counted from 0, of square images.

    keys: (class, ipc_id) of each image. Its crop depends only on the seed, the key and the epoch, so that
        more images or epochs change no other crop. Groups are dealt over all images.
    """
    count = len(keys)
    if settings.order_seed is None:
        order = draws(seed, "views", "groups", epoch).permutation(count)
    else:
        order = _official_order(keys, settings.order_seed, epoch)

    def streams(purpose: str) -> list[Draws]:
        return draws_of_each(seed, "views", purpose, epoch, keys=[keys[image] for image in order])

    crops = sample_views(
        streams("crop"), count, image_size, settings.crop_scale, flip_probability=settings.flip_probability
    )
    bands = changes = None
    if settings.patch_shuffle > 1:
        bands = sample_band_orders(streams("bands"), settings.patch_shuffle)
    if settings.rand_augment:
        changes = sample_rand_augment(streams("rand_augment"), (image_size, image_size))
    partner, box, lam = _draw_mixing(seed, epoch, count, image_size, settings)
    group = np.arange(count, dtype=np.int64) // settings.mix_group
    return EpochViews(
        image=order.astype(np.int64), crops=crops, mix=settings.mix, group=group, partner=partner, box=box,
        lam=lam, bands=bands, changes=changes,
    )  # fmt: skip


def _official_order(keys: Sequence[tuple[int, int]], seed: int, epoch: int) -> np.ndarray:
    """The official sampler's order of images in an epoch: torch's permutation of the sorted files.

    Permutations of earlier epochs are drawn too. torch promises its streams for one release only.
    """
    files = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    orders = official_relabel_orders(len(keys), seed)
    return files[next(islice(orders, epoch, None)).numpy()]


def _draw_mixing(
    seed: int, epoch: int, count: int, image_size: int, settings: ViewSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Partner, box and lam of every row, drawn group by group."""
    partner = np.arange(count, dtype=np.int64)
    box, lam = np.zeros((count, 4), dtype=np.int64), np.ones(count)
    for number, first in enumerate(range(0, count, settings.mix_group) if settings.mix != "none" else ()):
        rows = slice(first, min(first + settings.mix_group, count))
        stream, size = draws(seed, "views", "mix", epoch, number), rows.stop - first
        if settings.mix == "cutmix":
            mixing = sample_cutmix(stream, size, image_size, image_size, settings.mix_alpha)
            box[rows] = mixing.box
        else:
            mixing = sample_mixup(stream, size, settings.mix_alpha)
        partner[rows] = first + mixing.partner.numpy()
        lam[rows] = mixing.lam
    return partner, box, lam


class ViewKernel(Protocol):
    """Cuts and mixes views with the same bits as `render_views`."""

    def __call__(
        self, own: ViewCutter, partners: ViewCutter | None, box_B4: Tensor | None, lam_B: Tensor | None
    ) -> Tensor:
        """The views, pasted into by `box_B4` or blended by `lam_B` with their partners."""
        ...

    def change(self, images_BCHW: Tensor, changes: RandAugmentParams) -> Tensor:
        """See `apply_rand_augment`."""
        ...


def render_views(
    images_MCHW: Tensor,
    views: EpochViews,
    rows: np.ndarray,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    kernel: ViewKernel | None = None,
) -> Tensor:
    """The mixed views of some rows [B]: float32 [B, C, S, S].

    On a CPU a row's bits do not depend on the other rows. The order is that of EDC's and RDED's transforms:
    operations of RandAugment on the bytes, bands shuffled, then cropped and flipped as pixels in [0, 1],
    normalised with `mean` and `std` of each channel, mixed.

    Args:
        images_MCHW: uint8, any device; `views.image` indexes them.
        kernel: makes the same bits faster.
    """
    shown = np.unique(rows if views.mix == "none" else np.concatenate([rows, views.partner[rows]]))
    source, image = images_MCHW, views.image[shown]
    if views.changes is not None:
        chosen = torch.from_numpy(image).to(images_MCHW.device)
        change = apply_rand_augment if kernel is None else kernel.change
        source, image = change(images_MCHW[chosen], views.changes[shown]), np.arange(len(shown))

    def cutter(places: np.ndarray) -> ViewCutter:
        chosen = shown[places]
        bands = None if views.bands is None else views.bands[chosen]
        crops = views.crops[torch.from_numpy(chosen)]
        return ViewCutter(source, image[places], crops, bands=bands, mean=mean, std=std)

    if views.mix == "none":
        every = cutter(np.searchsorted(shown, rows))
        return _cut_all(every) if kernel is None else kernel(every, None, None, None)
    places, partners = (np.searchsorted(shown, each) for each in (rows, views.partner[rows]))
    if kernel is not None:
        box, lam = torch.from_numpy(views.box[rows]), torch.from_numpy(views.lam[rows])
        mixing = (box, None) if views.mix == "cutmix" else (None, lam)
        return kernel(cutter(places), cutter(partners), *mixing)
    if len(shown) <= _FEW_MORE * len(rows):
        # The partners of a whole group are the group itself.
        every = _cut_all(cutter(np.arange(len(shown))))
        own, other = (every[torch.from_numpy(each).to(every.device)] for each in (places, partners))
        return _mixed(own, other, views, rows, Window(0, 0, 0, 0))
    return _cut_mixed(cutter(places), cutter(partners), views, rows)


def _cut_all(cutter: ViewCutter) -> Tensor:
    views_BCHW = cutter.empty()
    for part in cutter.parts():
        cutter.cut(part, out=views_BCHW[part])
    return views_BCHW


def _cut_mixed(own: ViewCutter, partners: ViewCutter, views: EpochViews, rows: np.ndarray) -> Tensor:
    """Mixes part by part, and makes only the window of the partners that the part's boxes lie in."""
    views_BCHW = own.empty()
    height, width = views_BCHW.shape[-2:]
    for part in own.parts():
        own.cut(part, out=views_BCHW[part])
        window = Window(0, height, 0, width)
        if views.mix == "cutmix":
            window = _window_of(views.box[rows[part]])
        if window.row0 < window.row1:
            inside = views_BCHW[part, :, window.row0 : window.row1, window.column0 : window.column1]
            inside.copy_(_mixed(inside, partners.cut(part, window), views, rows[part], window))
    return views_BCHW


def _mixed(own: Tensor, other: Tensor, views: EpochViews, rows: np.ndarray, window: Window) -> Tensor:
    """Mixes a window of views."""
    if views.mix == "mixup":
        return apply_mixup_rows(own, other, views.lam[rows])
    shift = np.array([window.row0, window.row0, window.column0, window.column0])
    return apply_cutmix_rows(own, other, torch.from_numpy(views.box[rows] - shift))


def _window_of(box_B4: np.ndarray) -> Window:
    """The smallest window around all non-empty boxes."""
    box_B4 = box_B4[(box_B4[:, 0] < box_B4[:, 1]) & (box_B4[:, 2] < box_B4[:, 3])]
    if not len(box_B4):
        return Window(0, 0, 0, 0)
    low, high = box_B4.min(axis=0), box_B4.max(axis=0)
    return Window(int(low[0]), int(high[1]), int(low[2]), int(high[3]))
