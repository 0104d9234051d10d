from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edc_ray.core.pixels import from_uint8, normalise
from edc_ray.core.seeding import draws
from edc_ray.core.views import cut_views as module
from edc_ray.core.views.augment import apply_views, sample_views
from edc_ray.core.views.cut_views import ViewCutter, Window
from edc_ray.core.views.patch_shuffle import sample_band_orders
from tests.core.shuffled_bands import shuffle_bands

MEAN, STD, SIZE = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), (9, 13)
IMAGES = torch.from_numpy(draws(3, "images").integers(256, 5, 3, *SIZE).astype(np.uint8))
SHOWN = np.array([4, 0, 0, 3, 2, 1])
CROPS = sample_views([draws(0, row) for row in range(6)], 6, SIZE, (0.1, 1.0))
BANDS = sample_band_orders([draws(1, row) for row in range(6)], 3)


def whole(bands: bool) -> torch.Tensor:
    images = IMAGES[torch.from_numpy(SHOWN)]
    images = shuffle_bands(images, BANDS) if bands else images
    return normalise(apply_views(from_uint8(images), CROPS), MEAN, STD)


def cutter(bands: bool) -> ViewCutter:
    return ViewCutter(IMAGES, SHOWN, CROPS, bands=BANDS if bands else None, mean=MEAN, std=STD)


@pytest.mark.parametrize("bands", [False, True])
def test_bits_are_those_of_whole_images_made_floats_and_cut(bands: bool) -> None:
    assert torch.equal(cutter(bands).cut(slice(None)), whole(bands))


@given(
    rows=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    columns=st.tuples(st.integers(0, 13), st.integers(0, 13)),
)
@settings(max_examples=25, deadline=None)
def test_a_window_has_the_bits_of_the_whole(rows: tuple[int, int], columns: tuple[int, int]) -> None:
    window = Window(*sorted(rows), *sorted(columns))
    made = cutter(True).cut(slice(1, 4), window)
    inside = (slice(1, 4), slice(None), slice(*sorted(rows)), slice(*sorted(columns)))
    assert torch.equal(made, whole(True)[inside])


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 6), (4 * 3 * 9 * 13, [4, 2]), (1 << 17, [6])])
def test_parts_hold_every_view_once_and_no_more_pixels_than_are_to_be_made_at_once(
    monkeypatch: pytest.MonkeyPatch, limit: int, sizes: list[int]
) -> None:
    monkeypatch.setitem(module._PIXELS_AT_ONCE, "cpu", limit)
    views = cutter(False)
    parts = list(views.parts())
    assert [part.stop - part.start for part in parts] == sizes
    made = views.empty()
    for part in parts:
        assert views.cut(part, out=made[part]).data_ptr() == made[part].data_ptr()
    assert torch.equal(made, whole(False))


def test_other_images_than_bytes_and_other_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="cut out of uint8 images"):
        ViewCutter(IMAGES.float(), SHOWN, CROPS, mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="5 views"):
        ViewCutter(IMAGES, SHOWN[:5], CROPS, mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="6 views"):
        ViewCutter(IMAGES, SHOWN, CROPS, bands=BANDS[np.arange(2)], mean=MEAN, std=STD)
