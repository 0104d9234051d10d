from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edc_ray.config.dataset import DatasetSpec
from edc_ray.data.real.sources import open_dataset
from edc_ray.errors import EdcRayError

MODULE = """
import numpy as np

def _made(count, start):
    labels = np.arange(count) % 3
    images = np.zeros((count, 8, 8, 3), np.uint8)
    images += (60 * labels + start)[:, None, None, None].astype(np.uint8)
    images[np.arange(count), 0, 0, 0] = np.arange(count)
    return images, labels, ["dark", "grey", "light"]

def shades(role):
    return _made(30, 0) if role == "train" else _made(12, 7)

def floats(role):
    images, labels, names = shades(role)
    return images / 255, labels, names

def fewer_labels(role):
    images, labels, names = shades(role)
    return images, labels[:-1], names

def pair(role):
    return shades(role)[:2]
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_images.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


def opened(train: str, val: str | None = None) -> object:
    return open_dataset(DatasetSpec(train=train, val=val), seed=0)


def test_a_users_function_gives_training_and_validation_images() -> None:
    data = open_dataset(DatasetSpec(train="own_images:shades", val="own_images:shades"), seed=0)
    assert (len(data.train), len(data.val)) == (30, 12)
    assert data.spec.class_names == ("dark", "grey", "light")
    assert (data.spec.image_size, data.spec.channels) == (8, 3)
    assert np.array_equal(np.sort(data.train.fetch(np.arange(30))[:, 0, 0, 0]), np.arange(30))


def test_without_validation_images_a_part_of_the_functions_is_held_out() -> None:
    data = open_dataset(DatasetSpec(train="own_images:shades", val_fraction=0.2), seed=0)
    assert (len(data.train), len(data.val)) == (24, 6)


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("own_images:shade", r"no function 'shade'(.|\n)*did you mean 'own_images:shades'"),
        ("no_such_module_anywhere:shades", "cannot be imported"),
        ("own_images:floats", r"float64(.|\n)*uint8"),
        ("own_images:fewer_labels", r"\[29\](.|\n)*N integers"),
        ("own_images:pair", r"fails for the train images(.|\n)*ValueError"),
    ],
)
def test_a_function_that_gives_no_images_is_refused(source: str, match: str) -> None:
    with pytest.raises(EdcRayError, match=match):
        opened(source)
