"""Datasets known by name: scikit-learn's digits, and the small ones of torchvision."""

from __future__ import annotations

import difflib
import posixpath
from typing import Any

import numpy as np

from edc_ray.data.real.undecoded import MemoryReader, UndecodedImages
from edc_ray.errors import DataError

# name -> class of torchvision.datasets, and how it is told which split is meant
_TORCHVISION: dict[str, tuple[str, str]] = {
    "cifar10": ("CIFAR10", "train"),
    "cifar100": ("CIFAR100", "train"),
    "fashion_mnist": ("FashionMNIST", "train"),
    "kmnist": ("KMNIST", "train"),
    "mnist": ("MNIST", "train"),
    "stl10": ("STL10", "split"),
    "svhn": ("SVHN", "split"),
    "usps": ("USPS", "train"),
}


def read_digits(role: str) -> UndecodedImages:
    """The 1,797 handwritten digits of scikit-learn: 8x8 pixels of 0 to 16, scaled to 0 to 255.

    Raises:
        DataError: role is "val", for the set has no validation split.
    """
    if role == "val":
        raise DataError(
            "sklearn:digits has no validation split",
            expected="dataset.val unset; then dataset.val_fraction of the images are held out",
        )
    # Imported here: scikit-learn takes a second to import and nothing else needs it.
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    names = tuple(str(name) for name in digits.target_names)
    reader = MemoryReader(pixels, "sklearn:digits")
    return UndecodedImages(
        reader, np.arange(len(pixels)), digits.target.astype(np.int64), names, "sklearn:digits"
    )


def read_torchvision(name: str, role: str, *, cache: str, download: bool) -> UndecodedImages:
    """A dataset of torchvision whose images are one array.

    Args:
        name: such as "cifar10".
        role: "train" or "val"; validation is the test split.
        cache: local folder for the files.
        download: whether they may be fetched.

    Raises:
        DataError: the name is unknown, or the files are absent and may not be, or cannot be, fetched.
    """
    source = f"torchvision:{name}"
    if name not in _TORCHVISION:
        nearest = difflib.get_close_matches(name, _TORCHVISION, n=1)
        raise DataError(
            f"unknown dataset '{source}'",
            expected=f"torchvision: with one of {', '.join(_TORCHVISION)}",
            next=f"did you mean 'torchvision:{nearest[0]}'?" if nearest else None,
        )
    # Imported here: it takes seconds, in every worker too.
    from torchvision import datasets

    kind, option = _TORCHVISION[name]
    split: Any = role == "train" if option == "train" else {"train": "train", "val": "test"}[role]
    folder = posixpath.join(posixpath.expanduser(cache), "torchvision")
    try:
        dataset: Any = getattr(datasets, kind)(root=folder, download=download, **{option: split})
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{source} is not in {folder}",
            found=str(error).splitlines()[0],
            next="check the network" if download else "dataset.download=true, or put the files there",
        ) from error
    return _from_arrays(dataset, source)


def _from_arrays(dataset: Any, source: str) -> UndecodedImages:
    pixels = np.asarray(dataset.data)
    if pixels.ndim == 4 and pixels.shape[1] == 3:  # SVHN and STL10 are [N, C, H, W]
        pixels = pixels.transpose(0, 2, 3, 1)
    labels = np.asarray(dataset.targets if hasattr(dataset, "targets") else dataset.labels, dtype=np.int64)
    names = tuple(str(name) for name in dataset.classes) if hasattr(dataset, "classes") else None
    return UndecodedImages(MemoryReader(pixels, source), np.arange(len(pixels)), labels, names, source)
