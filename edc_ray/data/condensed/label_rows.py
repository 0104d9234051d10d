"""The views of an epoch as stored label rows, these as tables with any codec of soft labels, and back.

N views, K classes. `edc_ray.artifacts` knows columns but no codecs, `edc_ray.core` codecs but no tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch

from edc_ray.artifacts.tables import schema
from edc_ray.artifacts.tables.checks import check_table
from edc_ray.artifacts.tables.logit_columns import LogitColumns, logit_columns
from edc_ray.artifacts.tables.schema import LABEL_COLUMNS, LabelRows
from edc_ray.core.labels.codec import EncodedLabels
from edc_ray.core.labels.specification import label_codec
from edc_ray.core.views.augment import AugmentParams
from edc_ray.core.views.patch_shuffle import BandOrders
from edc_ray.core.views.rand_augment import OPERATIONS, RandAugmentParams
from edc_ray.core.views.views import EpochViews
from edc_ray.errors import ArtifactError, ConfigError

Pair = TypeVar("Pair")


def rows_of_views(
    epoch: int, views: EpochViews, labels_M: np.ndarray, ipc_ids_M: np.ndarray, logits_NK: np.ndarray
) -> LabelRows:
    """The rows of one epoch, in the order of its views, of M images that `views.image` indexes.

    The logits are soft labels in their stored form.
    """
    image, partner, crops = views.image, views.image[views.partner], views.crops
    bands, changes = views.bands, views.changes
    return LabelRows(
        epoch=np.full(len(views), epoch),
        label=labels_M[image],
        ipc_id=ipc_ids_M[image],
        crop_top=crops.top.numpy(),
        crop_left=crops.left.numpy(),
        crop_height=crops.height.numpy(),
        crop_width=crops.width.numpy(),
        flip=crops.flip.numpy(),
        mix=np.full(len(views), views.mix),
        mix_group=views.group,
        partner_label=labels_M[partner],
        partner_ipc_id=ipc_ids_M[partner],
        box_row0=views.box[:, 0],
        box_row1=views.box[:, 1],
        box_col0=views.box[:, 2],
        box_col1=views.box[:, 3],
        lam=views.lam,
        logits=logits_NK,
        band_rows=None if bands is None else bands.rows,
        band_columns=None if bands is None else bands.columns,
        change_operation=None if changes is None else changes.operation,
        change_magnitude=None if changes is None else changes.magnitude,
    )


def views_of_rows(
    rows: LabelRows, place: Mapping[tuple[int, int], int], *, url: str = "an epoch of labels"
) -> EpochViews:
    """The views of one epoch's rows. `place` is (label, ipc_id) -> index of the image.

    Raises:
        ArtifactError: a row names an unknown image, or rows are mixed in several ways.
    """
    mixes = np.unique(rows.mix).tolist()
    if len(mixes) != 1:
        raise ArtifactError(
            f"{url}: the rows of an epoch are mixed in several ways", found=mixes, expected="one way"
        )
    return EpochViews(
        image=_find(place, rows.label, rows.ipc_id, url),
        crops=crops_of_rows(rows),
        mix=mixes[0],
        group=rows.mix_group,
        partner=_find(places_of(rows.label, rows.ipc_id), rows.partner_label, rows.partner_ipc_id, url),
        box=np.stack([rows.box_row0, rows.box_row1, rows.box_col0, rows.box_col1], axis=1),
        lam=rows.lam,
        bands=_pair(BandOrders, rows.band_rows, rows.band_columns),
        changes=_pair(RandAugmentParams, rows.change_operation, rows.change_magnitude),
    )


def refuse_views_outside(rows: LabelRows, image_size: int, *, url: str) -> None:
    """Refuse views that cannot be cut out of their images, whose side is `image_size`.

    Raises:
        ArtifactError: a crop or box reaches outside the image, a band is missing, or an operation is unknown.
    """
    sound: dict[str, Any] = {
        "crop": _inside(rows.crop_top, rows.crop_top + rows.crop_height, image_size, least=1)
        & _inside(rows.crop_left, rows.crop_left + rows.crop_width, image_size, least=1),
        "box": _inside(rows.box_row0, rows.box_row1, image_size)
        & _inside(rows.box_col0, rows.box_col1, image_size),
    }
    for name, bands in (("band_rows", rows.band_rows), ("band_columns", rows.band_columns)):
        if bands is not None:
            sound[name] = (np.sort(bands, axis=1) == np.arange(bands.shape[1])).all(axis=1)
    if rows.change_operation is not None:
        sound["change_operation"] = (rows.change_operation < len(OPERATIONS)).all(axis=1)
    if rows.change_magnitude is not None:
        sound["change_magnitude"] = np.isfinite(rows.change_magnitude).all(axis=1)
    for name, is_sound in sound.items():
        if not is_sound.all():
            row = int(np.flatnonzero(~is_sound)[0])
            raise ArtifactError(
                f"{url} holds a view that its image cannot have",
                found=f"{name} of label {rows.label[row]}, ipc_id {rows.ipc_id[row]}",
                expected=f"inside {image_size}x{image_size} pixels",
                next="run relabel again",
            )


def _inside(first: np.ndarray, end: np.ndarray, size: int, *, least: int = 0) -> np.ndarray:
    return (first >= 0) & (end - first >= least) & (end <= size)


def crops_of_rows(rows: LabelRows) -> AugmentParams:
    """The crops and flips of some rows."""
    columns = (rows.crop_top, rows.crop_left, rows.crop_height, rows.crop_width, rows.flip)
    return AugmentParams(*(torch.from_numpy(np.ascontiguousarray(column)) for column in columns))


def places_of(labels: np.ndarray, ipc_ids: np.ndarray) -> dict[tuple[int, int], int]:
    """(label, ipc_id) -> its position."""
    pairs = zip(labels.tolist(), ipc_ids.tolist(), strict=True)
    return {pair: position for position, pair in enumerate(pairs)}


def _pair(kind: Callable[[Any, Any], Pair], first: Any, second: Any) -> Pair | None:
    return None if first is None or second is None else kind(first, second)


def _find(
    place: Mapping[tuple[int, int], int], labels: np.ndarray, ipc_ids: np.ndarray, url: str
) -> np.ndarray:
    pairs = zip(labels.tolist(), ipc_ids.tolist(), strict=True)
    try:
        return np.array([place[pair] for pair in pairs], np.int64)
    except KeyError as error:
        label, ipc_id = error.args[0]
        what = f"{url}: a label row names an image that is not in the condensed set"
        raise ArtifactError(f"{what}: label {label}, ipc_id {ipc_id}", next="run relabel again") from None


def encoded_labels_table(
    rows: LabelRows, class_names: Sequence[str], *, codec: str, dataset: str = ""
) -> pa.Table:
    """A table of views and encoded soft labels.

    Raises:
        ConfigError: the codec does not exist.
        ValueError: as `schema.build_labels_table`.
    """
    encoded = None
    if codec != "fp16":
        labels = label_codec(codec).encode(rows.logits)
        encoded = LogitColumns(codec, labels.columns, labels.shared)
    return schema.build_labels_table(rows, class_names, dataset=dataset, encoded=encoded)


def decoded_label_rows(table: pa.Table, *, url: str = "a table of labels") -> LabelRows:
    """Views and soft labels of a table, decoded to float16.

    Raises:
        ArtifactError: another schema, a newer version, an unknown codec or damaged columns. It names `url`.
    """
    spec = schema.label_codec_of(table)
    if spec == "fp16":
        return schema.read_labels_table(table, url=url)
    class_names = check_table(table, list(LABEL_COLUMNS), url=url)
    stored = logit_columns(table, spec, url=url)
    try:
        logits = label_codec(spec).decode(EncodedLabels(stored.columns, len(class_names), stored.shared))
    except ConfigError as error:
        raise ArtifactError(
            f"{url} holds labels of an unknown codec",
            found=repr(spec[:80]),
            expected=error.expected,
            next="upgrade edc-ray",
        ) from error
    except ValueError as error:
        raise ArtifactError(
            f"{url} holds damaged logits", found=str(error), expected=f"columns of the codec {spec}"
        ) from error
    if logits.shape != (table.num_rows, len(class_names)):
        raise ArtifactError(f"{url} holds damaged logits", found=f"logits of {list(logits.shape)}")
    with np.errstate(over="ignore"):
        return schema.read_labels_table(table, url=url, logits=logits.astype(np.float16))


def rounded_by(codec: str, logits_NK: np.ndarray) -> np.ndarray:
    """Soft labels as they come back from a table of their own, float16 [N, K].

    Raises:
        ConfigError: the codec does not exist.
        NumericalError: they cannot be stored.
    """
    chosen = label_codec(codec)
    return chosen.decode(chosen.encode(logits_NK)).astype(np.float16)
