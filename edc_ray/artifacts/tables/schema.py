"""The tables that stages exchange: their columns, and how to build and read them.

N rows, C channels, H W pixels, K classes, P patches. The metadata of a table holds the class names, the
dataset's name and the lowest schema version that a reader must know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from edc_ray.artifacts.tables.checks import (
    PREFIX,
    check_slots,
    check_table,
    check_views,
    refuse_other_types,
    refuse_repeated,
)
from edc_ray.artifacts.tables.codec import ImageFormat, decode_images, encode_image
from edc_ray.artifacts.tables.columns import integers, lists_column, plain_column, shaped, stacked
from edc_ray.artifacts.tables.logit_columns import LogitColumns, logit_arrays
from edc_ray.errors import ArtifactError

_CODEC = f"{PREFIX}label_codec"
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
IMAGES_SCHEMA = pa.schema(
    [("image", IMAGE_TYPE), ("label", pa.int64()), ("class_name", pa.string()), ("ipc_id", pa.int32())]
)
MIXES = ("none", "cutmix", "mixup")
LABEL_COLUMNS: dict[str, pa.DataType] = {
    "epoch": pa.int32(),
    "label": pa.int64(),
    "ipc_id": pa.int32(),
    "crop_top": pa.uint16(),
    "crop_left": pa.uint16(),
    "crop_height": pa.uint16(),
    "crop_width": pa.uint16(),
    "flip": pa.bool_(),
    "mix": pa.dictionary(pa.int8(), pa.string()),
    "mix_group": pa.int32(),
    "partner_label": pa.int64(),
    "partner_ipc_id": pa.int32(),
    "box_row0": pa.uint16(),
    "box_row1": pa.uint16(),
    "box_col0": pa.uint16(),
    "box_col1": pa.uint16(),
    "lam": pa.float64(),
}
# Lists of one length, present only if views have such parameters. The version is higher, because a reader
# that ignored them would see other pixels.
VIEW_COLUMNS: dict[str, pa.DataType] = {
    "band_rows": pa.uint8(),
    "band_columns": pa.uint8(),
    "change_operation": pa.uint8(),
    "change_magnitude": pa.float64(),
}
QUANTITIES = ("channel_mean", "channel_variance", "patch_mean", "patch_variance")
RESULT_COLUMNS: dict[str, pa.DataType] = {
    "row": pa.string(),
    "ipc": pa.int32(),
    "student": pa.string(),
    "seed": pa.int64(),
    "top1": pa.float64(),
    "top5": pa.float64(),
}
_STATISTIC_KEY = ("layer", "kind", "definition", "scope")
_STATISTIC_COLUMNS = tuple(name for quantity in QUANTITIES for name in (quantity, f"{quantity}_shape"))
StatisticKey = tuple[str, str, str, str]
"""Layer, kind (bn, conv), definition (pooled, official), scope (global, class)."""


@dataclass(frozen=True)
class ImageRows:
    """images uint8 [N, C, H, W]; labels, ipc_ids int64 [N]; names of all classes, by label."""

    images: np.ndarray
    labels: np.ndarray
    ipc_ids: np.ndarray
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class LabelRows:
    """Views of condensed images and their soft labels, one row a view, in the order of the epoch.

    All arrays are [N], logits float16 [N, K]. The crop box is in pixels of the condensed image. `mix` is one
    of MIXES. The partner is a row of the same epoch and group (the image itself for "none"). The CutMix box
    is rows [row0, row1) times columns [col0, col1), empty for the others. `lam`: the Beta draw, 1 for "none".

    Before the crop, the operations `change_operation` with `change_magnitude` [N, operations] change the
    image (`core.views.rand_augment`), then `band_rows` and `band_columns` [N, bands] reorder its bands
    (`core.views.patch_shuffle`). None: not done.
    """

    epoch: np.ndarray
    label: np.ndarray
    ipc_id: np.ndarray
    crop_top: np.ndarray
    crop_left: np.ndarray
    crop_height: np.ndarray
    crop_width: np.ndarray
    flip: np.ndarray
    mix: np.ndarray
    mix_group: np.ndarray
    partner_label: np.ndarray
    partner_ipc_id: np.ndarray
    box_row0: np.ndarray
    box_row1: np.ndarray
    box_col0: np.ndarray
    box_col1: np.ndarray
    lam: np.ndarray
    logits: np.ndarray
    band_rows: np.ndarray | None = None
    band_columns: np.ndarray | None = None
    change_operation: np.ndarray | None = None
    change_magnitude: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: slice | np.ndarray) -> LabelRows:
        """Some of the rows, in the order given."""
        return LabelRows(**{name: array[rows] for name, array in vars(self).items() if array is not None})

    @staticmethod
    def concatenate(parts: Sequence[LabelRows]) -> LabelRows:
        """The rows of several tables in turn. All or none have the parameters that may be None."""
        columns: dict[str, Any] = {}
        for name in vars(parts[0]):
            arrays = [getattr(part, name) for part in parts]
            if any(array is not None for array in arrays):
                columns[name] = np.concatenate(arrays)
        return LabelRows(**columns)


def build_images_table(
    images: np.ndarray,
    labels: np.ndarray,
    ipc_ids: np.ndarray,
    class_names: Sequence[str],
    format: ImageFormat = "png",
    quality: int = 75,
    *,
    dataset: str = "",
) -> pa.Table:
    """A table of condensed images. `datasets.load_dataset("parquet")` gives Image and ClassLabel features.

    Args:
        images: uint8 [N, C, H, W].
        labels, ipc_ids: [N].
        class_names: of all classes, by label.
        format, quality: see `encode_image`.
        dataset: its name.

    Raises:
        ValueError: lengths differ or a label has no name.
    """
    if not len(images) == len(labels) == len(ipc_ids):
        raise ValueError(f"{len(images)} images, {len(labels)} labels and {len(ipc_ids)} ipc ids")
    _check_labels(labels, len(class_names))
    encoded = [{"bytes": encode_image(image, format, quality), "path": None} for image in images]
    names = [class_names[int(label)] for label in labels]
    columns = [
        pa.array(encoded, IMAGE_TYPE),
        plain_column(labels, pa.int64()),
        pa.array(names, pa.string()),
        plain_column(ipc_ids, pa.int32()),
    ]
    metadata = image_metadata(class_names, dataset, {"class_name": "string", "ipc_id": "int32"})
    return pa.table(columns, schema=IMAGES_SCHEMA.with_metadata(metadata))


def read_images_table(table: pa.Table, *, url: str = "a table of images") -> ImageRows:
    """Images of a table, decoded; an ArtifactError for another schema, a newer version or damage."""
    class_names = check_table(table, IMAGES_SCHEMA.names, url=url)
    refuse_other_types(table, dict(zip(IMAGES_SCHEMA.names, IMAGES_SCHEMA.types, strict=True)), url=url)
    labels, ipc_ids = integers(table.column("label")), integers(table.column("ipc_id"))
    check_slots(url, labels, ipc_ids, len(class_names))
    refuse_repeated(url, {"label": labels, "ipc_id": ipc_ids})
    if table.column("class_name").to_pylist() != [class_names[label] for label in labels.tolist()]:
        raise ArtifactError(f"{url}: class names and labels differ", expected="the name of each row's label")
    images = decode_images(table.column("image").combine_chunks().field("bytes").to_pylist(), url=url)
    return ImageRows(images, labels, ipc_ids, class_names)


def build_labels_table(
    rows: LabelRows, class_names: Sequence[str], *, dataset: str = "", encoded: LogitColumns | None = None
) -> pa.Table:
    """A table of views and soft labels.

    `encoded` is stored instead of the plain logits; `data.condensed.label_rows` encodes them.

    Raises:
        ValueError: lengths differ, a value is outside its column's range, logits not finite float16 [N, K].
    """
    logits = np.ascontiguousarray(rows.logits)
    if logits.dtype != np.float16 or logits.shape != (len(rows), len(class_names)):
        expected = f"float16 [{len(rows)}, {len(class_names)}]"
        raise ValueError(f"logits must be {expected}, got {logits.dtype} {list(logits.shape)}")
    if not np.isfinite(logits).all():
        raise ValueError("logits hold NaN or Inf")
    if unknown := set(np.unique(rows.mix).tolist()) - set(MIXES):
        raise ValueError(f"mix must be one of {MIXES}, got {sorted(unknown)}")
    _check_labels(rows.label, len(class_names))
    columns = {name: plain_column(getattr(rows, name), kind) for name, kind in LABEL_COLUMNS.items()}
    extra = {name: kind for name, kind in VIEW_COLUMNS.items() if getattr(rows, name) is not None}
    columns |= {name: lists_column(getattr(rows, name), kind) for name, kind in extra.items()}
    columns |= {"logits": lists_column(logits, pa.float16())} if encoded is None else logit_arrays(encoded)
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError("the columns of a label table must have one length")
    version = 3 if encoded is not None else 2 if extra else 1
    metadata = table_metadata(class_names, dataset, version=version)
    metadata[_CODEC] = "fp16" if encoded is None else encoded.codec
    return pa.table(columns, metadata=metadata)


def label_codec_of(table: pa.Table) -> str:
    """The codec of a table of labels; fp16 if it states none."""
    return (table.schema.metadata or {}).get(_CODEC.encode(), b"fp16").decode(errors="replace")


def read_labels_table(
    table: pa.Table, *, url: str = "a table of labels", logits: np.ndarray | None = None
) -> LabelRows:
    """Views and soft labels of a table: integers as int64, logits as float16 [N, K].

    `logits` are given if the codec of the table is not fp16.

    Raises:
        ArtifactError: another schema, a newer version, or logits that are not finite; names `url`.
    """
    class_names = check_table(table, [*LABEL_COLUMNS, *(["logits"] if logits is None else [])], url=url)
    lists = {name: pa.list_(kind, 1) for name, kind in VIEW_COLUMNS.items()}
    refuse_other_types(table, LABEL_COLUMNS | lists, url=url)
    columns: dict[str, np.ndarray] = {}
    for name, kind in LABEL_COLUMNS.items():
        if pa.types.is_integer(kind):
            columns[name] = integers(table.column(name))
        elif name == "mix":
            columns[name] = np.array(table.column(name).to_pylist(), dtype="<U6")
        else:
            columns[name] = table.column(name).to_numpy()
    for name in VIEW_COLUMNS:
        if name in table.column_names:
            columns[name] = stacked(table.column(name))
    check_views(url, columns, len(class_names), MIXES)
    refuse_repeated(url, {name: columns[name] for name in ("epoch", "label", "ipc_id")})
    values = _stored_logits(table, len(class_names), url) if logits is None else logits
    if not np.isfinite(values).all():
        raise ArtifactError(f"{url} holds soft labels that are NaN or Inf", next="run relabel again")
    return LabelRows(**columns, logits=values)


def _stored_logits(table: pa.Table, num_classes: int, url: str) -> np.ndarray:
    refuse_other_types(table, {"logits": pa.list_(pa.float16(), num_classes)}, url=url)
    kind = table.schema.field("logits").type
    if kind.list_size != num_classes:
        raise ArtifactError(f"{url} holds other logits", found=str(kind), expected=f"{num_classes} a row")
    return stacked(table.column("logits")).astype(np.float16, copy=False)


def build_statistics_table(
    statistics: Mapping[StatisticKey, Mapping[str, np.ndarray | None]],
    class_names: Sequence[str],
    *,
    dataset: str = "",
) -> pa.Table:
    """A table of layer statistics, stored as float32.

    Each key has the quantities of QUANTITIES: [C] or [P] for scope "global", [K, C] or [K, P] for "class".
    Patch quantities may be absent or None.
    """
    columns: dict[str, pa.Array] = {
        name: pa.array([key[place] for key in statistics], pa.string())
        for place, name in enumerate(_STATISTIC_KEY)
    }
    for quantity in QUANTITIES:
        arrays = [values.get(quantity) for values in statistics.values()]
        flat = [None if array is None else np.asarray(array, np.float32).reshape(-1) for array in arrays]
        shapes = [None if array is None else list(np.shape(array)) for array in arrays]
        columns[quantity] = pa.array(flat, pa.list_(pa.float32()))
        columns[f"{quantity}_shape"] = pa.array(shapes, pa.list_(pa.int32()))
    return pa.table(columns, metadata=table_metadata(class_names, dataset))


def read_statistics_table(
    table: pa.Table, *, url: str = "a table of statistics"
) -> dict[StatisticKey, dict[str, np.ndarray | None]]:
    """Layer statistics of a table, float32, in stored order; errors: see `read_images_table`."""
    check_table(table, [*_STATISTIC_KEY, *_STATISTIC_COLUMNS], url=url)
    refuse_other_types(table, dict.fromkeys(_STATISTIC_KEY, pa.string()), url=url)
    keys = list(zip(*(table.column(name).to_pylist() for name in _STATISTIC_KEY), strict=True))
    statistics: dict[StatisticKey, dict[str, np.ndarray | None]] = {key: {} for key in keys}
    if len(statistics) < len(keys):
        raise ArtifactError(f"{url} holds statistics of a layer twice")
    for quantity in QUANTITIES:
        flat, shapes = table.column(quantity), table.column(f"{quantity}_shape").to_pylist()
        for key, shape, scalar in zip(keys, shapes, flat, strict=True):
            try:
                statistics[key][quantity] = shaped(scalar, shape)
            except (ValueError, TypeError, AttributeError) as error:
                raise ArtifactError(
                    f"{url} holds damaged statistics", found=f"{quantity} of {key}: {error}"
                ) from error
    return statistics


def build_results_table(
    rows: Sequence[Mapping[str, Any]], class_names: Sequence[str], *, dataset: str = "", metadata: Any = None
) -> pa.Table:
    """A table of results, one row a student: RESULT_COLUMNS, then further numeric ones that may lack values.

    `metadata` is a JSON value about the whole table.
    """
    extra = dict.fromkeys(name for row in rows for name in row if name not in RESULT_COLUMNS)
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in RESULT_COLUMNS.items()}
    columns |= {name: pa.array([row.get(name) for row in rows], pa.float64()) for name in extra}
    about = {f"{PREFIX}results": json.dumps(metadata, sort_keys=True, allow_nan=False)}
    return pa.table(columns, metadata=table_metadata(class_names, dataset) | about)


def read_results_table(
    table: pa.Table, *, url: str = "a table of results"
) -> tuple[list[dict[str, Any]], Any]:
    """Rows of a table of results and its metadata; errors: see `read_images_table`."""
    check_table(table, list(RESULT_COLUMNS), url=url)
    # The row `full` has no ipc.
    refuse_other_types(table, RESULT_COLUMNS, url=url, nullable=("ipc",))
    about = (table.schema.metadata or {}).get(f"{PREFIX}results".encode(), b"null")
    try:
        return table.to_pylist(), json.loads(about)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{url} holds damaged results", found=str(error)) from error


def table_metadata(class_names: Sequence[str], dataset: str, version: int = 1) -> dict[str, str]:
    """Metadata of every table that this program writes."""
    return {
        f"{PREFIX}schema_version": str(version),
        f"{PREFIX}class_names": json.dumps(list(class_names)),
        f"{PREFIX}dataset": dataset,
    }


def image_metadata(class_names: Sequence[str], dataset: str, plain: Mapping[str, str]) -> dict[str, str]:
    """Metadata of a table of images, with the features that `datasets` reads; `plain`: column -> type."""
    features = {"image": {"_type": "Image"}, "label": {"names": list(class_names), "_type": "ClassLabel"}}
    features |= {name: {"dtype": kind, "_type": "Value"} for name, kind in plain.items()}
    return table_metadata(class_names, dataset) | {
        "huggingface": json.dumps({"info": {"features": features}})
    }


def _check_labels(labels: np.ndarray, num_classes: int) -> None:
    if not len(labels):
        return
    least, most = int(np.min(labels)), int(np.max(labels))
    if least < 0 or most >= num_classes:
        raise ValueError(f"labels must lie in 0..{num_classes - 1}, got {least}..{most}")
