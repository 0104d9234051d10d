"""What is known of a labelled image dataset. A dataset is a value, never a folder of code."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from edc_ray.config.section import Section
from edc_ray.errors import ConfigError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR_MEAN, CIFAR_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


def without_credentials(url: str, what: str) -> str:
    """The URL itself.

    Raises:
        ConfigError: it holds a password or a signature. (It passes through pydantic, whose own error would
            quote the URL.)
    """
    if "://" in url and re.search(r"://[^/]*@|\?.*=", url):
        raise ConfigError(
            f"{what} holds a password or a signature, and a config is stored with its run",
            expected="a plain URL",
            next="remove it: credentials come from the environment or the identity of each node",
        )
    return url


class DatasetSpec(Section):
    """Where real images live and what they look like.

    A field left at None is inferred from the training images and stored, resolved, with the run.
    """

    name: str = Field(default="mine", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    train: str | None = Field(
        default=None,
        description="URL, glob or folder of images, Parquet URL, 'sklearn:digits' or 'torchvision:NAME'",
    )
    val: str | None = Field(default=None, description="as train; None holds out val_fraction of train")
    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    num_classes: int | None = Field(default=None, ge=2)
    class_names: tuple[str, ...] | None = None
    image_size: int | None = Field(
        default=None, ge=4, le=1024, description="side of the square images the networks see"
    )
    channels: Literal[1, 3] | None = None
    mean: tuple[float, ...] | None = Field(default=None, description="per channel, of pixels in [0, 1]")
    std: tuple[float, ...] | None = None
    max_per_class: int | None = Field(
        default=None, ge=1, description="keep only so many training images of a class"
    )
    max_val_per_class: int | None = Field(default=None, ge=1)
    download: bool = Field(default=False, description="let torchvision fetch a named dataset")
    cache: str = Field(
        default="~/.cache/edc-ray", description="folder for what a node fetches: named datasets, weights"
    )
    flip: bool = Field(default=True, description="a mirrored image keeps its class (not so for digits)")
    allow_weak_observers: bool = False

    @field_validator("train", "val")
    @classmethod
    def _holds_no_credentials(cls, url: str | None) -> str | None:
        return url if url is None else without_credentials(url, "a dataset URL")


INFERRED_FIELDS = ("num_classes", "class_names", "image_size", "channels", "mean", "std")
