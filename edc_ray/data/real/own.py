"""Images that a user's own function gives: `dataset.train=module:factory`."""

from __future__ import annotations

from typing import Any

import numpy as np

from edc_ray.data.real.undecoded import MemoryReader, UndecodedImages
from edc_ray.errors import DataError
from edc_ray.own_code import own_function

_EXPECTED = (
    "(images, labels, class names): uint8 [N, H, W] or [N, H, W, C], N integers from 0 on, names or None"
)


def read_own(source: str, role: str) -> UndecodedImages:
    """The images of a user's function, which is called with "train" or "val".

    Raises:
        ConfigError: the function cannot be imported.
        DataError: it fails, or gives no images; says what it should give.
    """
    factory = own_function("dataset", source, expected=_EXPECTED)
    try:
        images, labels, names = factory(role)
        pixels, numbers = np.asarray(images), np.asarray(labels)
    except Exception as error:  # and so can the function
        raise DataError(
            f"dataset '{source}' fails for the {role} images",
            found=f"{type(error).__name__}: {error}",
            expected=_EXPECTED,
        ) from error
    _check(source, pixels, numbers)
    class_names = None if names is None else tuple(str(one) for one in names)
    return UndecodedImages(
        MemoryReader(pixels, source), np.arange(len(pixels)), numbers.astype(np.int64), class_names, source
    )


def _check(source: str, pixels: Any, labels: Any) -> None:
    channels = pixels.shape[3] if pixels.ndim == 4 else 1
    sound = pixels.dtype == np.uint8 and pixels.ndim in (3, 4) and channels in (1, 3)
    counted = labels.shape == pixels.shape[:1] and labels.dtype.kind in "iu" and labels.min(initial=0) >= 0
    if not (sound and counted):
        raise DataError(
            f"dataset '{source}' gives no images that can be used",
            found=f"images {pixels.dtype} {list(pixels.shape)}, labels {labels.dtype} {list(labels.shape)}",
            expected=_EXPECTED,
        )
