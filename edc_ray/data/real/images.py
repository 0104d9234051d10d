"""Sets of real images behind one interface: decoded in memory, or decoded on demand."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from edc_ray.data.real.device_decoding import decode_rows_on, map_rows_on
from edc_ray.data.real.undecoded import Decoding, ItemReader, Made, decode_rows, map_rows

_DECODER_VERSION = 2
"""How images are turned and laid over a background. 1 did neither and stands in no hash."""


class ImageSet(ABC):
    """Labelled square images of one size.

    Attributes:
        labels: int64 [N].
        class_names: name of each label.
        channels: 1 or 3.
        image_size: side S in pixels.
        whole: whether `map_pictures` gives whole pictures instead of the squares of `fetch`.
    """

    labels: np.ndarray
    class_names: tuple[str, ...]
    channels: int
    image_size: int
    whole: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def network_shape(self) -> dict[str, int]:
        """What `build_network` needs to know of these images: their classes, side and channels."""
        return {
            "num_classes": len(self.class_names), "image_size": self.image_size, "channels": self.channels
        }  # fmt: skip

    @abstractmethod
    def fetch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The images at some indices, in that order, as a new uint8 array [n, C, S, S].

        Stages ask for them on their device (`fetch_to`), which may decode by itself.
        """

    def fetch_to(self, device: torch.device, indices: np.ndarray) -> Tensor:
        """The images at some indices, uint8 [n, C, S, S] on a device. CUDA gets them in stream order."""
        return sent_to(device, torch.from_numpy(self.fetch(indices)))

    def map_pictures(
        self, device: torch.device, indices: np.ndarray, work: Callable[[int, Tensor], Made]
    ) -> list[Made]:
        """The results of `work` for the pictures at some indices, one after the other or in threads.

        Args:
            device: decodes the pictures, if the set is decoded by one.
            indices: in any order.
            work: called with a position in `indices` and a picture, uint8 [C, H, W], which need not be square
                if the set is `whole`. It lies on the CPU or on the device.
        """
        return [work(position, picture) for position, picture in enumerate(self.fetch_to(device, indices))]

    @abstractmethod
    def subset(self, indices: Sequence[int] | np.ndarray) -> ImageSet:
        """The set of the images at some indices, in that order, with the same class names."""

    @abstractmethod
    def _content_digest(self) -> bytes: ...

    def class_indices(self, label: int) -> np.ndarray:
        """Indices of the images of one class, ascending."""
        return np.flatnonzero(self.labels == label)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) of images, labels and class names. Computed once; pickling keeps it."""
        sha = hashlib.sha256()
        sha.update(repr((self.channels, self.image_size, self.class_names)).encode())
        sha.update(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        sha.update(self._content_digest())
        return sha.hexdigest()

    @cached_property
    def class_hashes(self) -> tuple[str, ...]:
        """SHA-256 (hex) of each class's images in their order, by label, without the label and the name.

        Computed once. Covers as much of the images as `content_hash` does.
        """
        return tuple(self._class_hash(label) for label in range(len(self.class_names)))

    def _class_hash(self, label: int) -> str:
        own = self.subset(self.class_indices(label))
        sha = hashlib.sha256(repr((self.channels, self.image_size, len(own))).encode())
        sha.update(own._content_digest())
        return sha.hexdigest()


class DenseImages(ImageSet):
    """Images decoded into one array. It pickles as plain numpy, so that processes can share the memory.

    Args:
        images_NCSS: uint8.
        labels: integers [N], each the index of a class name.
        class_names: names in label order.

    Raises:
        ValueError: shapes or types do not agree.
    """

    def __init__(
        self, images_NCSS: np.ndarray, labels: np.ndarray | Sequence[int], class_names: Sequence[str]
    ) -> None:
        if images_NCSS.dtype != np.uint8 or images_NCSS.ndim != 4 or len(set(images_NCSS.shape[2:])) != 1:
            raise ValueError(
                f"images must be uint8 [N, C, S, S], not {images_NCSS.dtype} {images_NCSS.shape}"
            )
        if len(labels) != len(images_NCSS):
            raise ValueError(f"{len(images_NCSS)} images but {len(labels)} labels")
        self.images = images_NCSS
        self.labels = np.asarray(labels, dtype=np.int64)
        self.class_names = tuple(class_names)
        self.channels = int(images_NCSS.shape[1])
        self.image_size = int(images_NCSS.shape[2])

    def fetch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """See ImageSet."""
        return self.images[_as_indices(indices)]

    def subset(self, indices: Sequence[int] | np.ndarray) -> DenseImages:
        """See ImageSet. Copies the pixels."""
        chosen = _as_indices(indices)
        return DenseImages(self.images[chosen], self.labels[chosen], self.class_names)

    def _content_digest(self) -> bytes:
        return hashlib.sha256(np.ascontiguousarray(self.images).data).digest()


class EncodedImages(ImageSet):
    """Images decoded on each request, for sets that are too large to hold decoded.

    Args:
        reader: where the undecoded images are.
        rows: row of the reader for each image.
        labels: integers [N].
        class_names: names in label order.
        decoding: how.
        whole: crops may be cut from the original pictures.
        shown_otherwise: some are turned when they are shown, or have transparent pixels.

    Notes:
        The content hash covers what the reader knows without decoding: the bytes if they are in memory, else
        names and sizes of the files.
    """

    def __init__(
        self,
        reader: ItemReader,
        rows: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str],
        decoding: Decoding,
        *,
        whole: bool = False,
        shown_otherwise: bool = False,
    ) -> None:
        self.reader = reader
        self.rows = _as_indices(rows)
        self.labels = np.asarray(labels, dtype=np.int64)
        self.class_names = tuple(class_names)
        self.decoding = decoding
        self.channels, self.image_size = decoding.channels, decoding.image_size
        self.whole = whole
        self.shown_otherwise = shown_otherwise

    def fetch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """See ImageSet. Pillow decodes, whatever the decoder.

        Raises:
            DataError: an image is corrupt; the error names it.
        """
        return decode_rows(self.reader, self.rows[_as_indices(indices)], self.decoding)

    def fetch_to(self, device: torch.device, indices: np.ndarray) -> Tensor:
        """See ImageSet.

        Raises:
            DataError: an image is corrupt; the error names it.
            ResourceError: the device cannot decode JPEG files, and the set is to be decoded there.
        """
        if self.decoding.decoder == "pillow":
            return super().fetch_to(device, indices)
        return decode_rows_on(device, self.reader, self.rows[indices], self.decoding)

    def map_pictures(
        self, device: torch.device, indices: np.ndarray, work: Callable[[int, Tensor], Made]
    ) -> list[Made]:
        """See ImageSet. Works in threads where Pillow decodes.

        Raises:
            DataError, ResourceError: as `fetch_to`.
        """
        if not self.whole:
            return super().map_pictures(device, indices, work)
        rows = self.rows[indices]
        if self.decoding.decoder == "pillow":
            return map_rows(self.reader, rows, work, self.decoding)
        return map_rows_on(device, self.reader, rows, work, self.decoding)

    def subset(self, indices: Sequence[int] | np.ndarray) -> EncodedImages:
        """See ImageSet. Reads nothing."""
        chosen = _as_indices(indices)
        return EncodedImages(
            self.reader,
            self.rows[chosen],
            self.labels[chosen],
            self.class_names,
            self.decoding,
            whole=self.whole,
            shown_otherwise=self.shown_otherwise,
        )

    def _content_digest(self) -> bytes:
        digest = self.reader.digest(self.rows)
        # The bytes are undecoded, so they do not say how they are decoded.
        made = "whole" if self.whole else self.decoding.resize
        if made != "shorter_side":
            digest += made.encode()
        if self.decoding.decoder != "pillow":
            digest += f"decoder {self.decoding.decoder}".encode()
        if self.shown_otherwise:
            digest += f"{_DECODER_VERSION} {self.decoding.transparency}".encode()
        return digest


def sent_to(device: torch.device, values: Tensor) -> Tensor:
    """Values on a device. CUDA copies them out of pinned memory in stream order, and the host goes on."""
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    # torch gives the pinned memory to nobody before the copy is done.
    return values.pin_memory().to(device, non_blocking=True)


def _as_indices(indices: Sequence[int] | np.ndarray) -> np.ndarray:
    array = np.asarray(indices)
    if array.dtype == bool:
        raise ValueError("indices must be integers; np.flatnonzero turns a mask into them")
    return array.astype(np.int64).reshape(-1)
