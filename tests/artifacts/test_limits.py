from __future__ import annotations

import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edc_ray.artifacts.limits import (
    FREE_BYTES,
    MAX_DECODED_BYTES,
    MAX_IMAGE_PIXELS,
    MAX_RATIO,
    refuse_inflated,
    refuse_inflated_table,
    refuse_inflated_zip,
    refuse_large_image,
)


@pytest.mark.parametrize(
    ("claimed", "stored"), [(0, 0), (FREE_BYTES, 1), (MAX_RATIO * 10**6, 10**6), (MAX_DECODED_BYTES, 2**40)]
)
def test_sizes_up_to_the_limits_pass(claimed: int, stored: int) -> None:
    refuse_inflated(claimed, stored)
    with pytest.raises(ValueError, match="claim to be"):
        refuse_inflated(max(claimed + 1, FREE_BYTES + 1), stored)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="claim to be -1"):
        refuse_inflated(-1, 100)


def test_an_image_of_a_pixel_too_many_is_refused() -> None:
    refuse_large_image(MAX_IMAGE_PIXELS, 1)
    with pytest.raises(ValueError, match="pixels are more than"):
        refuse_large_image(MAX_IMAGE_PIXELS + 1, 1)


def test_a_table_that_grows_a_thousandfold_is_refused_from_its_footer() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"label": np.zeros(20_000_000, np.int64)}), sink, compression="zstd")
    data = sink.getvalue()
    metadata = pq.ParquetFile(pa.BufferReader(data)).metadata
    refuse_inflated_table(metadata, 10 * 2**20)
    with pytest.raises(ValueError, match=f"{data.size} bytes that claim"):
        refuse_inflated_table(metadata, data.size)


def test_members_of_a_zip_are_counted_together() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "ab":
            archive.writestr(name, bytes(FREE_BYTES // 2 + 1))
    members = zipfile.ZipFile(buffer).infolist()
    refuse_inflated_zip(members[:1], 100)
    with pytest.raises(ValueError, match="claim to be"):
        refuse_inflated_zip(members, 100)
