"""Soft labels in the official programs' files: `epoch_<e>/batch_<b>.tar`, lists saved by torch.

B images of a batch, K classes. A list holds coordinates of the crops, flips, partners, lam, box, logits,
places of the images among all files and, for ImageNet, indices of shuffled patches. It is a pickle that is
read as data only, with an allow-list of types.
"""

from __future__ import annotations

import _codecs
import io
import pickletools
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edc_ray.artifacts.storage.limits import read_member, refuse_inflated_zip
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.schema import LabelRows
from edc_ray.core.labels.codec import Fp16Codec
from edc_ray.core.views.augment import AugmentParams
from edc_ray.core.views.official_views import coordinates_from_views, views_from_coordinates
from edc_ray.core.views.views import EpochViews, Mix
from edc_ray.data.condensed.label_rows import crops_of_rows, rows_of_views
from edc_ray.errors import ArtifactError, DataError
from edc_ray.sharing.formats.official_images import Slot

_ITEMS = {"imagenet": 8, "small": 7}  # ImageNet's programs also save the indices of shuffled patches
_NEXT = "give labels of these images, at their size"

_BATCH = re.compile(r"epoch_(0|[1-9]\d*)/batch_(0|[1-9]\d*)\.tar", re.ASCII)
# Besides tensors and plain Python values, official files hold numpy's integers and floats. The function that
# makes a scalar has two names, depending on the version of numpy that wrote the file.
_SCALAR: Any = np.int64(0).__reduce__()[0]
_ALLOWED: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Int64DType,
    np.dtypes.Float64DType,
    _codecs.encode,  # numpy writes the bytes of a scalar with it
]
_EXPECTED_NAMES = ("torch.", "torch._utils", "numpy", "collections.OrderedDict", "_codecs.encode")


@dataclass(frozen=True)
class OfficialBatch:
    """One file.

    coordinates: float32 [B, 4], crop boxes as shares of the image. flip: bool [B].
    partner: int64 [B] or None (not mixed), row of the batch that is mixed in.
    lam: the Beta draw. box: (row0, column0, row1, column1), None for MixUp or no mixing.
    logits: float16 or float32 [B, K]. index: int64 [B], place of each image among all files, sorted.
    """

    coordinates: Tensor
    flip: Tensor
    partner: Tensor | None
    lam: float | None
    box: tuple[int, int, int, int] | None
    logits: Tensor
    index: Tensor


def batch_from_bytes(data: bytes, *, url: str = "a label file") -> OfficialBatch:
    """Read one file without running anything in it.

    Raises:
        ArtifactError: damage, another layout, or a type outside the allow-list. Names `url`.
    """
    try:
        _refuse_inflated(data)
        with torch.serialization.safe_globals(_ALLOWED):
            items = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError and others
        raise ArtifactError(
            f"{url} is not an official label file",
            found=_strangers(data) or type(error).__name__,
            expected="a list of tensors and numbers; nothing else is unpickled",
        ) from error
    if not isinstance(items, list) or len(items) not in _ITEMS.values():
        found = f"list of {len(items)}" if isinstance(items, list) else type(items).__name__
        raise ArtifactError(f"{url} is not an official label file", found=found, expected="a list of 7 or 8")
    coordinates, flip, partner, lam, box, logits, index, *patches = items
    _check_layout(url, coordinates, flip, partner, lam, box, logits, index)
    if patches and (not _is_plain(patches[0]) or bool(patches[0].any())):
        raise ArtifactError(
            f"{url} holds labels of shuffled patches", found="patch indices other than 0", next=_NEXT
        )
    row0, column0, row1, column1 = map(int, box or (0, 0, 0, 0))
    return OfficialBatch(
        coordinates, flip, partner, None if lam is None else float(lam),
        None if box is None else (row0, column0, row1, column1), logits, index.long(),
    )  # fmt: skip


def batch_to_bytes(batch: OfficialBatch, *, layout: str = "imagenet") -> bytes:
    """Write one file as the official relabelling does; layout "small" is that of CIFAR and Tiny-ImageNet."""
    items: list[Any] = [
        batch.coordinates,
        batch.flip,
        batch.partner,
        batch.lam,
        None if batch.box is None else [np.int64(side) for side in batch.box],
        batch.logits,
        batch.index,
        torch.zeros(len(batch.flip), 2, 2, dtype=torch.int32),
    ]
    buffer = io.BytesIO()
    torch.save(items[: _ITEMS[layout]], buffer)
    return buffer.getvalue()


def rows_of_epoch(
    batches: Sequence[OfficialBatch],
    slots: Sequence[Slot],
    num_classes: int,
    image_size: int,
    epoch: int,
    *,
    url: str = "an epoch of label files",
) -> LabelRows:
    """The views and labels of one epoch as rows of our table. A batch is a mixing group.

    Args:
        batches: of the epoch, in order.
        slots: of each image, in the order in which the files count them.
        num_classes: K.
        image_size: side of the images.
        epoch: its number.
        url: its name in errors.

    Raises:
        DataError: the labels belong to other images, or to images of another size.
    """
    _check_images(torch.cat([batch.index for batch in batches]), len(slots), url)
    labels, ipc_ids = np.array(slots).T
    parts = []
    for number, batch in enumerate(batches):
        if batch.logits.shape[1] != num_classes:
            found = f"{batch.logits.shape[1]} classes"
            raise _other_labels(url, "labels of another dataset", found, str(num_classes))
        views = _views_of_batch(batch, number, image_size, url)
        logits = Fp16Codec().encode(batch.logits.float().numpy()).columns["logits"]
        parts.append(rows_of_views(epoch, views, labels, ipc_ids, logits))
    return LabelRows.concatenate(parts)


def batches_of_epoch(
    rows: LabelRows, place: Mapping[Slot, int], image_size: int, *, batch_size: int | None = None
) -> list[OfficialBatch]:
    """The official batches of one epoch of ours.

    Args:
        rows: of the epoch, in its order.
        place: of each image among all files of its folder, sorted.
        image_size: side of the images.
        batch_size: of the official student. None: the size of the mixing groups.

    Raises:
        ArtifactError: the mixing groups are not batches of one size, or the files cannot express the views.
    """
    _refuse_unsayable(rows)
    starts = np.flatnonzero(np.diff(rows.mix_group, prepend=rows.mix_group[0] - 1))
    ends = np.append(starts[1:], len(rows))
    sizes = ends - starts
    wanted = batch_size or int(sizes[0])
    if len(starts) != len(np.unique(rows.mix_group)) or (sizes[:-1] != wanted).any() or sizes[-1] > wanted:
        raise ArtifactError(
            "the official student mixes whole batches, but these labels are mixed in other groups",
            found=f"mixing groups of {', '.join(map(str, np.unique(sizes)))} views",
            expected=f"batches of {wanted}; only the last may be shorter",
            next=f"export with the size of the groups, or relabel with relabel.mix_group={wanted}",
        )
    return [
        _batch_of_rows(rows.take(np.arange(first, end)), place, image_size)
        for first, end in zip(starts, ends, strict=True)
    ]


def _refuse_unsayable(rows: LabelRows) -> None:
    """Refuse views with changes that a file cannot hold: an official student would not repeat them."""
    for field, columns, neutral in (
        ("relabel.patch_shuffle", rows.band_rows, "1"),
        ("relabel.rand_augment", rows.change_operation, "false"),
    ):
        if columns is not None:
            raise ArtifactError(
                "official label files cannot hold how these views were made",
                found=f"views changed by {field}",
                expected="only crops, flips and mixing",
                next=f"relabel with {field}={neutral}",
            )


def list_batches(store: Store) -> list[list[str]]:
    """Paths of the batches of every epoch, in order; a DataError for other or missing files."""
    numbers: dict[tuple[int, int], str] = {}
    for path in store.list():
        form = _BATCH.fullmatch(path)
        if form is None:
            raise DataError(
                f"{store.url} holds other files than labels",
                found=path,
                expected="epoch_0/batch_0.tar and so on",
                next="remove it: the official student counts everything in the folder as epochs",
            )
        numbers[int(form[1]), int(form[2])] = path
    if not numbers:
        raise DataError(f"no labels in {store.url}", expected="epoch_0/batch_0.tar and so on")
    epochs, batches = (1 + max(counted) for counted in zip(*numbers, strict=True))
    # Counted, not listed: a file's name may have any number.
    if lacking := epochs * batches - len(numbers):
        places = ((epoch, batch) for epoch in range(epochs) for batch in range(batches))
        epoch, batch = next(place for place in places if place not in numbers)
        raise DataError(
            f"{store.url}: {lacking} label files are missing",
            found=f"no epoch_{epoch}/batch_{batch}.tar",
            expected=f"{batches} batches in each of {epochs} epochs",
        )
    return [[numbers[epoch, batch] for batch in range(batches)] for epoch in range(epochs)]


def _strangers(data: bytes) -> str:
    """Names that a file would import, for an error. The file is only disassembled."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            refuse_inflated_zip(archive.infolist(), len(data))
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            opcodes = list(pickletools.genops(read_member(archive, archive.getinfo(name))))
    except Exception:  # the file is refused anyway: this only improves the message
        return ""
    named = [str(argument).replace(" ", ".") for code, argument, _ in opcodes if code.name == "GLOBAL"]
    return ", ".join(name for name in named if not name.startswith(_EXPECTED_NAMES))


def _check_layout(url: str, *items: Any) -> None:
    coordinates, flip, partner, lam, box, logits, index = items
    size = len(index) if _is_plain(index) and index.ndim == 1 else -1
    sound = (
        _is_tensor(coordinates, (size, 4), torch.float32)
        and _is_tensor(flip, (size,), torch.bool)
        and (partner is None or _is_tensor(partner, (size,), torch.int64))
        and (lam is None or (isinstance(lam, float | np.floating) and 0 <= lam <= 1))
        and (box is None or (isinstance(box, list | tuple) and len(box) == 4))
        and _is_plain(logits)
        and logits.ndim == 2
        and len(logits) == size
        and logits.is_floating_point()
        and not index.is_floating_point()
    )
    if not sound or (box is not None and not all(isinstance(side, int | np.integer) for side in box)):
        raise ArtifactError(
            f"{url} is not an official label file",
            found=", ".join(_kind(item) for item in items),
            expected="coordinates [B, 4], flips, partners, lam, box of 4, logits [B, K], indices",
        )
    if not bool(coordinates.isfinite().all() and logits.isfinite().all()):
        raise ArtifactError(f"{url} holds NaN or Inf", expected="finite coordinates and logits")


def _is_tensor(item: Any, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    return _is_plain(item) and tuple(item.shape) == shape and item.dtype == dtype


def _is_plain(item: Any) -> bool:
    """Whether a tensor stores every number. Sparse tensors do not, nor those that repeat or lack numbers."""
    is_dense = type(item) is Tensor and item.layout is torch.strided and item.device.type == "cpu"
    if not is_dense or item.requires_grad or item.is_quantized:
        return False
    return item.numel() * item.element_size() <= item.untyped_storage().nbytes()


def _kind(item: Any) -> str:
    return f"{item.dtype} {list(item.shape)}" if isinstance(item, Tensor) else type(item).__name__


def _refuse_inflated(data: bytes) -> None:
    """Refuse an archive whose members grow when they are read. torch does not compress its tensors."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("compressed members")
    if sum(member.file_size for member in members) > len(data):
        raise ValueError("its members claim more bytes than the file has")


def _check_images(index: Tensor, num_images: int, url: str) -> None:
    problem = "labels of another image set"
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < num_images:
        found = f"dataset index {int(index.max() if index.min() >= 0 else index.min())}"
        raise _other_labels(url, problem, found, f"0 to {num_images - 1}, for {num_images} images")
    counts = torch.bincount(index, minlength=num_images)
    if bool((counts != 1).any()):
        image = int(torch.nonzero(counts != 1)[0])
        found = f"{len(index)} labels of {num_images} images, {int(counts[image])} of image {image}"
        raise _other_labels(url, problem, found, "one label of each image in each epoch")


def _other_labels(url: str, problem: str, found: Any, expected: str | None = None) -> DataError:
    return DataError(f"{url}: {problem}", found=found, expected=expected, next=_NEXT)


def _views_of_batch(batch: OfficialBatch, number: int, image_size: int, url: str) -> EpochViews:
    crops, size = _crops(batch, image_size, url), len(batch.index)
    mix: Mix = "none" if batch.partner is None else "mixup" if batch.box is None else "cutmix"
    partner = np.arange(size) if batch.partner is None else batch.partner.numpy()
    row0, column0, row1, column1 = batch.box or (0, 0, 0, 0)
    if not (0 <= row0 <= row1 <= image_size and 0 <= column0 <= column1 <= image_size):
        raise _other_labels(url, "a mixing box lies outside the images", batch.box)
    if size and not 0 <= int(partner.min()) <= int(partner.max()) < size:
        raise _other_labels(url, "a partner lies outside its batch", int(partner.max()))
    return EpochViews(
        image=batch.index.numpy(), crops=crops, mix=mix, group=np.full(size, number), partner=partner,
        box=np.tile(np.array([row0, row1, column0, column1]), (size, 1)),
        lam=np.full(size, 1.0 if batch.lam is None else batch.lam),
    )  # fmt: skip


def _crops(batch: OfficialBatch, image_size: int, url: str) -> AugmentParams:
    """The crops in pixels. Coordinates between pixels belong to images of another size."""
    views = views_from_coordinates(batch.coordinates, batch.flip, (image_size, image_size))
    boxes = torch.stack([views.top, views.left, views.height, views.width], 1)
    away = (batch.coordinates.double() * image_size - boxes).abs().max().item() if len(boxes) else 0.0
    inside = (boxes[:, :2] >= 0) & (boxes[:, 2:] > 0) & (boxes[:, :2] + boxes[:, 2:] <= image_size)
    if away > 0.01 or not bool(inside.all()):
        found = f"a crop {away:.2f} pixels off the grid" if away > 0.01 else "a crop outside the image"
        expected = f"crops of images of {image_size}x{image_size}"
        raise _other_labels(url, "labels of another image size", found, expected)
    return views


def _batch_of_rows(rows: LabelRows, place: Mapping[Slot, int], image_size: int) -> OfficialBatch:
    own = list(zip(rows.label.tolist(), rows.ipc_id.tolist(), strict=True))
    where = {slot: position for position, slot in enumerate(own)}
    partners = zip(rows.partner_label.tolist(), rows.partner_ipc_id.tolist(), strict=True)
    mix, crops = str(rows.mix[0]), crops_of_rows(rows)
    box = (rows.box_row0[0], rows.box_col0[0], rows.box_row1[0], rows.box_col1[0])
    return OfficialBatch(
        coordinates=coordinates_from_views(crops, (image_size, image_size)),
        flip=crops.flip,
        partner=None if mix == "none" else torch.tensor([where[slot] for slot in partners]),
        lam=None if mix == "none" else float(rows.lam[0]),
        box=tuple(map(int, box)) if mix == "cutmix" else None,  # type: ignore[arg-type]
        logits=torch.from_numpy(np.ascontiguousarray(rows.logits)),
        index=torch.tensor([place[slot] for slot in own]),
    )
