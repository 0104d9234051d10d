"""Tables of labels with any codec.

`edc_ray.artifacts` knows columns but no codecs, `edc_ray.core` knows codecs but no tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from edc_ray.artifacts.tables.checks import check_table
from edc_ray.artifacts.tables.logit_columns import LogitColumns, logit_columns
from edc_ray.artifacts.tables.schema import (
    LABEL_COLUMNS,
    LabelRows,
    build_labels_table,
    label_codec_of,
    read_labels_table,
)
from edc_ray.core.labels.codec import EncodedLabels
from edc_ray.core.labels.specification import label_codec
from edc_ray.errors import ArtifactError, ConfigError


def encoded_labels_table(
    rows: LabelRows, class_names: Sequence[str], *, codec: str, dataset: str = ""
) -> pa.Table:
    """A table of views and encoded soft labels.

    Raises:
        ConfigError: the codec does not exist.
        ValueError: as `build_labels_table`.
    """
    encoded = None
    if codec != "fp16":
        labels = label_codec(codec).encode(rows.logits)
        encoded = LogitColumns(codec, labels.columns, labels.shared)
    return build_labels_table(rows, class_names, dataset=dataset, encoded=encoded)


def decoded_label_rows(table: pa.Table, *, url: str = "a table of labels") -> LabelRows:
    """Views and soft labels of a table, decoded to float16.

    Raises:
        ArtifactError: another schema, a newer version, an unknown codec or damaged columns. It names `url`.
    """
    spec = label_codec_of(table)
    if spec == "fp16":
        return read_labels_table(table, url=url)
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
        return read_labels_table(table, url=url, logits=logits.astype(np.float16))


def rounded_by(codec: str, logits_NK: np.ndarray) -> np.ndarray:
    """Soft labels as they come back from a table of their own, float16 [N, K].

    Raises:
        ConfigError: the codec does not exist.
        NumericalError: they cannot be stored.
    """
    chosen = label_codec(codec)
    return chosen.decode(chosen.encode(logits_NK)).astype(np.float16)
