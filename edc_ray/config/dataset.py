"""What a config says of a labelled image dataset. A dataset is a value, never a folder of code."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edc_ray.config.credentials import PlainUrl
from edc_ray.config.section import Section

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Resize = Literal["shorter_side", "centre_crop", "square", "eight_sevenths"]
TrainResize = Literal["shorter_side", "square", "whole"]
Transparency = Literal["white", "black", "ignore"]
Decoder = Literal["pillow", "device"]
CIFAR_MEAN, CIFAR_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


class DatasetSpec(Section):
    """Where real images live and what they look like. The run infers and stores fields that are None."""

    name: str = Field(default="mine", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    train: PlainUrl | None = Field(
        default=None,
        description="URL, glob or folder of images, Parquet URL, 'sklearn:digits', 'torchvision:NAME' or "
        "your own 'module:factory', which gives images, labels and class names of 'train' or 'val'",
    )
    val: PlainUrl | None = Field(
        default=None,
        description="as train; None takes the validation or test split beside the training images, or holds "
        "out val_fraction of them",
    )
    image_column: str | None = Field(default=None, description="of Parquet files; None finds image, img, jpg")
    label_column: str | None = Field(
        default=None, description="of Parquet files; None finds label, fine_label, class_id, cls, target"
    )
    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    num_classes: int | None = Field(default=None, ge=2)
    class_names: tuple[str, ...] | None = None
    repeated_names: Literal["error", "number"] = Field(
        default="error", description="names that stand for several classes: number appends their labels"
    )
    transparency: Transparency = Field(
        default="white",
        description="what shows behind transparent pixels; ignore takes their colours as if opaque",
    )
    decoder: Decoder = Field(
        default="pillow",
        description="of sets that are decoded on demand; device: the GPU decodes and resizes JPEG files, and "
        "its pixels differ by a few grey levels",
    )
    on_bad_image: Literal["error", "skip"] = Field(
        default="error", description="images that cannot be decoded: skip leaves out up to max_bad_images"
    )
    max_bad_images: int = Field(default=100, ge=1, description="of the training and of the validation images")
    image_size: int | None = Field(default=None, ge=4, le=1024, description="side of the networks' inputs")
    channels: Literal[1, 3] | None = None
    mean: tuple[float, ...] | None = Field(default=None, description="per channel, of pixels in [0, 1]")
    std: tuple[Annotated[float, Field(ge=1e-6)], ...] | None = None
    max_per_class: int | None = Field(default=None, ge=1, description="limit of training images of a class")
    max_val_per_class: int | None = Field(default=None, ge=1)
    download: bool = Field(default=False, description="let torchvision fetch a named dataset")
    cache: str = Field(default="~/.cache/edc-ray", description="folder of a node's fetched data and weights")
    train_resize: TrainResize = Field(
        default="shorter_side",
        description="training images of another size: shorter_side, square as val_resize has them; whole: "
        "random crops (resized_crop, init.candidates=best_crops) are cut out of the whole picture, "
        "elsewhere it is as with square",
    )
    val_resize: Resize = Field(
        default="shorter_side",
        description="validation images of another size: see edc_ray.data.real.undecoded.decode_pixels",
    )
    flip: bool = Field(default=True, description="a mirrored image keeps its class (not so for digits)")
    allow_weak_observers: bool = False


INFERRED_FIELDS = ("num_classes", "class_names", "image_size", "channels", "mean", "std")
KNOWN_FIELDS = (*INFERRED_FIELDS, "val_fraction", "flip")
"""What a recipe knows of its images, wherever they lie."""
