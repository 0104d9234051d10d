"""Tiny runs of the first classes of a set of five, for the tests of adding classes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from edc_ray.stages.units.context import StageContext
from tests.data.made_images import synthetic_images, write_parquet
from tests.stages.tiny_runs import new_root, tiny_context

NAMES = tuple(f"class{label}" for label in range(5))
SMALL: dict[str, Any] = {
    "squeeze__observers": ["convnet_d1"],
    "recover__iterations": 2,
    "recover__classes_per_unit": 2,
    "relabel__epochs": 2,
    "evaluate__rows": ["condensed"],
    "evaluate__seeds": 1,
}
"""One observer, one student; images in blocks of two classes, of which three leave the last one short."""

REAL: dict[str, Any] = {"init__kind": "real", "recover__enabled": False}
"""Real images are the condensed ones: no observer has a say in them."""


def five_classes(*, darker: int | None = None) -> dict[str, str]:
    """URL of the images, those of one label darker; made for each test, which deletes what it wrote."""
    folder = f"memory://{uuid.uuid4().hex}"
    for seed, (name, size) in enumerate({"train": 12, "val": 8}.items()):
        images = synthetic_images(5, size, 8, 1, seed=seed)
        if name == "train" and darker is not None:
            images.images[images.labels == darker] //= 2
        write_parquet(images, f"{folder}/{name}.parquet")
    return {"dataset__train": f"{folder}/train.parquet", "dataset__val": f"{folder}/val.parquet"}


def run_of(classes: int | Sequence[str], root: str | None = None, **fields: Any) -> StageContext:
    """An opened run of the first so many of the five classes, or of those named."""
    names = list(NAMES[:classes]) if isinstance(classes, int) else list(classes)
    places = {} if "dataset__train" in fields else five_classes()
    given = SMALL | places | {"dataset__class_names": names} | fields
    return tiny_context(root or new_root(), **given)


def root_of(context: StageContext) -> str:
    return context.store.url.rsplit("/", 1)[0]
