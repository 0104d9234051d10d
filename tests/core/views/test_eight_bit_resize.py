from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from edc_ray.core.views.eight_bit_resize import resize_8_bit


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((40, 33), (112, 112)),
        ((224, 224), (112, 112)),
        ((17, 32), (32, 32)),
        ((9, 7), (9, 20)),
        ((64, 60), (33, 31)),
    ],
)
def test_bytes_equal_pillows(before, after):
    image = np.random.RandomState(0).randint(0, 256, (*before, 3)).astype(np.uint8)
    expected = np.asarray(Image.fromarray(image).resize(after[::-1], Image.Resampling.BILINEAR))
    resized = resize_8_bit(torch.from_numpy(image).permute(2, 0, 1)[None], after)
    assert np.array_equal(resized[0].permute(1, 2, 0).numpy(), expected)


def test_floating_point_images_are_refused():
    with pytest.raises(ValueError, match="float32"):
        resize_8_bit(torch.zeros(1, 3, 4, 4), (2, 2))
