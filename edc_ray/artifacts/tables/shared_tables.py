"""Tables with the columns and features of Hugging Face's datasets. Our readers open them too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from edc_ray.artifacts.tables.columns import integers, plain_column
from edc_ray.artifacts.tables.schema import IMAGE_TYPE, IMAGES_SCHEMA, image_metadata

CLASS_ID = "class_id"
"""The label again, as a plain number: some evaluators look for this name."""


class SharedImage(NamedTuple):
    """An encoded image, the name of its file, and which one it is."""

    data: bytes
    name: str
    label: int
    ipc_id: int


def build_shared_images_table(
    images: Sequence[SharedImage], class_names: Sequence[str], *, dataset: str = ""
) -> pa.Table:
    """A table of encoded images with the columns image, label, class_id, class_name and ipc_id.

    `datasets.load_dataset` gives Image and ClassLabel features.
    """
    labels = np.array([image.label for image in images], np.int64)
    columns = {
        "image": pa.array([{"bytes": image.data, "path": image.name} for image in images], IMAGE_TYPE),
        "label": plain_column(labels, pa.int64()),
        CLASS_ID: plain_column(labels, pa.int64()),
        "class_name": pa.array([class_names[image.label] for image in images], pa.string()),
        "ipc_id": plain_column(np.array([image.ipc_id for image in images]), pa.int32()),
    }
    assert set(IMAGES_SCHEMA.names) < set(columns)
    plain = {CLASS_ID: "int64", "class_name": "string", "ipc_id": "int32"}
    return pa.table(columns, metadata=image_metadata(class_names, dataset, plain))


def shared_labels_table(table: pa.Table, epochs: int) -> pa.Table:
    """A table of labels with its first epochs only, and texts as texts: `datasets` knows no dictionaries."""
    place = table.schema.get_field_index("mix")
    table = table.set_column(place, "mix", table.column("mix").cast(pa.string()))
    kept = integers(table.column("epoch")) < epochs
    return table if kept.all() else table.filter(pa.array(kept))


def rows_of_epoch(table: pa.Table) -> int:
    """Rows of the first epoch of a table of labels. All epochs have as many."""
    epochs = integers(table.column("epoch"))
    return int(np.count_nonzero(epochs == epochs[0]))
