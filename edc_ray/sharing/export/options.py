"""The options of an export, and the formats that each option is for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from edc_ray.artifacts.tables.codec import ImageFormat
from edc_ray.errors import ConfigError

Format = Literal["official", "rded", "huggingface", "imagefolder", "webdataset"]
Part = Literal["images", "labels", "statistics"]
FORMATS: tuple[Format, ...] = get_args(Format)
PARTS: tuple[Part, ...] = get_args(Part)
_PARTS_OF: dict[Format, tuple[Part, ...]] = {
    "official": PARTS,
    "rded": ("images",),
    "huggingface": ("images", "labels"),
    "imagefolder": ("images",),
    "webdataset": ("images",),
}
_OFFICIAL: tuple[Format, ...] = ("official",)
_WITH_CARD: tuple[Format, ...] = ("huggingface", "imagefolder", "webdataset")
_SHARDED: tuple[Format, ...] = ("huggingface", "webdataset")
# Option -> the formats that have it, and its flag on the command line.
_MEANT_FOR: dict[str, tuple[tuple[Format, ...], str]] = {
    "batch_size": (_OFFICIAL, "--batch-size"),
    "class_patch_swapped": (_OFFICIAL, "--no-class-patch-swapped"),
    "network_names": (_OFFICIAL, "--no-network-names"),
    "license": (_WITH_CARD, "--license"),
    "shard_bytes": (_SHARDED, "--shard-mb"),
}
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*")


@dataclass(frozen=True)
class ExportOptions:
    """How a run is exported.

    Args:
        format: see docs/INTEROP.md.
        parts: None: all that the run has and the format can hold.
        ipc: only this many images of each class, the first ones. Leaves out labels, which need all images.
        epochs: only the labels of this many epochs, the first ones.
        image_format: re-encode images. None keeps their bytes, and so the pixels that were labelled.
        batch_size: of the official student. None: the size of the mixing groups.
        class_patch_swapped: exchange patch mean and variance in class files, as the official program.
        network_names: name layers ResNet_ResNet18=..., as the CIFAR programs do. False: ResNet=..., as those
            of Tiny-ImageNet do. Has no effect on ImageNet's networks.
        license: of the condensed set, for its card.
        shard_bytes: approximate size of the largest file of images.
    """

    format: Format = "official"
    parts: Sequence[Part] | None = None
    ipc: int | None = None
    epochs: int | None = None
    image_format: ImageFormat | None = None
    batch_size: int | None = None
    class_patch_swapped: bool = True
    network_names: bool = True
    license: str = "unknown"
    shard_bytes: int = 400_000_000

    @property
    def possible_parts(self) -> tuple[Part, ...]:
        """The parts that the format can hold."""
        return _PARTS_OF[self.format]


def check_options(options: ExportOptions) -> None:
    """Refuse options and parts that the format would ignore, and a licence that is not an identifier."""
    for name, (formats, flag) in _MEANT_FOR.items():
        if getattr(options, name) != getattr(ExportOptions(), name) and options.format not in formats:
            raise ConfigError(
                f"{flag} has no effect on the format {options.format}",
                expected=f"--format {' or '.join(formats)}",
                next=f"leave {flag} out",
            )
    extra = [part for part in options.parts or () if part not in options.possible_parts]
    if extra:
        holds = " and ".join(options.possible_parts)
        raise ConfigError(f"the format {options.format} holds only {holds}", found=", ".join(extra))
    if options.format == "huggingface" and options.parts and "images" not in options.parts:
        raise ConfigError(
            "labels without their images are not a dataset",
            found=f"--only {', '.join(options.parts)}",
            next="add --only images, or leave --only out",
        )
    if not _LICENSE.fullmatch(options.license):
        raise ConfigError(
            "the licence is not an identifier",
            found=options.license,
            expected="one of Hugging Face's words, such as cc-by-4.0, apache-2.0, other or unknown",
        )
