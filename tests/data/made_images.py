"""Made images: shapes on a ground, which a small network learns quickly. Benchmarks use them too."""

from __future__ import annotations

import colorsys
import io
import json
import posixpath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from edc_ray.artifacts.storage.store import open_store
from edc_ray.core.seeding import draws
from edc_ray.data.real.images import DenseImages, ImageSet


def synthetic_images(
    num_classes: int = 3, per_class: int = 20, image_size: int = 16, channels: int = 3, seed: int = 0
) -> DenseImages:
    """Images whose class is a shape, its colour and its brightness; place, size and noise vary.

    Args:
        num_classes: at least 1; names are "class0", "class1", ...
        per_class: images of each class.
        image_size: side in pixels.
        channels: 1 or 3; in grey images brightness stands for colour.
        seed: the images are a function of the arguments. The first n of a class do not depend on per_class.

    Returns:
        Images in class order.
    """
    images = np.empty((num_classes * per_class, channels, image_size, image_size), dtype=np.uint8)
    for label in range(num_classes):
        for index in range(per_class):
            images[label * per_class + index] = _one_image(
                label, num_classes, index, image_size, channels, seed
            )
    labels = np.repeat(np.arange(num_classes), per_class)
    return DenseImages(images, labels, [f"class{label}" for label in range(num_classes)])


def write_image_folder(images: ImageSet, url: str, suffix: str = ".png") -> None:
    """Write a set as a tree of image files, one folder for each class.

    Args:
        images: the set.
        url: folder, on any storage that fsspec reaches.
        suffix: .png keeps the pixels; .jpg, .bmp and .webp are known as well.
    """
    store = open_store(url, writable=False)
    for index, (pixels, label) in enumerate(
        zip(images.fetch(range(len(images))), images.labels, strict=True)
    ):
        path = f"{images.class_names[label]}/{index:05d}{suffix}"
        store.publish(path, _encode(pixels, suffix), replace=True)


def write_parquet(images: ImageSet, url: str, *, row_group_size: int = 64) -> None:
    """Write a set as one Parquet file in the layout of Hugging Face image datasets.

    Args:
        images: the set.
        url: the file, on any storage that fsspec reaches.
        row_group_size: rows that are read together.
    """
    encoded = [
        {"bytes": _encode(pixels, ".png"), "path": f"{index:05d}.png"}
        for index, pixels in enumerate(images.fetch(range(len(images))))
    ]
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(images.class_names), "_type": "ClassLabel"},
    }
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    table = pa.table([pa.array(encoded, schema.field("image").type), pa.array(images.labels)], schema=schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=row_group_size)
    folder, name = posixpath.split(url)
    open_store(folder or ".", writable=False).publish(name, buffer.getvalue(), replace=True)


def _one_image(
    label: int, num_classes: int, index: int, image_size: int, channels: int, seed: int
) -> np.ndarray:
    stream = draws(seed, "fake", label, index)
    row, col, size = stream.uniform(3)
    y, x = np.mgrid[0:image_size, 0:image_size] / (image_size - 1) * 2 - 1
    inside = _shape(label % 4, y - 0.5 * (row - 0.5), x - 0.5 * (col - 0.5), 0.45 + 0.25 * size)
    if channels == 3:
        colour = np.asarray(colorsys.hsv_to_rgb(label / num_classes, 0.8, 0.9))
    else:
        colour = np.asarray([0.5 + 0.5 * (label + 1) / num_classes])
    pixels = 0.2 + inside * (colour[:, None, None] - 0.2)
    noisy = pixels + 0.05 * stream.normal(channels, image_size, image_size)
    return np.rint(255 * noisy.clip(0, 1)).astype(np.uint8)


def _shape(kind: int, y: np.ndarray, x: np.ndarray, radius: float) -> np.ndarray:
    if kind == 0:  # disc
        return y**2 + x**2 < radius**2
    if kind == 1:  # horizontal bar
        return (np.abs(y) < radius / 3) & (np.abs(x) < 1.5 * radius)
    if kind == 2:  # vertical bar
        return (np.abs(x) < radius / 3) & (np.abs(y) < 1.5 * radius)
    return (np.abs(np.abs(y) - np.abs(x)) < radius / 3) & (np.abs(y) < radius)  # diagonal cross


def _encode(pixels_CHW: np.ndarray, suffix: str) -> bytes:
    array = pixels_CHW[0] if len(pixels_CHW) == 1 else pixels_CHW.transpose(1, 2, 0)
    buffer = io.BytesIO()
    kind = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}[suffix]
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, kind)
    return buffer.getvalue()
