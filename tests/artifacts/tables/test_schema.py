from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pytest

from edc_ray.artifacts.tables.codec import table_from_bytes, table_to_bytes
from edc_ray.artifacts.tables.schema import (
    VIEW_COLUMNS,
    LabelRows,
    StatisticKey,
    build_images_table,
    build_labels_table,
    build_results_table,
    build_statistics_table,
    read_images_table,
    read_labels_table,
    read_results_table,
    read_statistics_table,
)
from edc_ray.errors import ArtifactError

NAMES = ("cat", "dog", "owl")
RNG = np.random.default_rng(0)


def _through_parquet(table: pa.Table) -> pa.Table:
    return table_from_bytes(table_to_bytes(table), url="x.parquet")


def _images_table(channels: int = 3) -> tuple[np.ndarray, pa.Table]:
    images = RNG.integers(0, 256, (4, channels, 6, 6), dtype=np.uint8)
    table = build_images_table(images, np.array([2, 0, 1, 1]), np.array([0, 0, 0, 1]), NAMES, dataset="pets")
    return images, table


def _label_rows(count: int = 4) -> LabelRows:
    names = [column.name for column in fields(LabelRows) if column.name not in VIEW_COLUMNS]
    integers = {name: RNG.integers(0, 3, count) for name in names}
    integers["ipc_id"] = np.arange(count)
    special = {
        "flip": np.array([True, False] * (count // 2)),
        "mix": np.array(["cutmix", "none"] * (count // 2)),
        "lam": RNG.random(count),
        "logits": RNG.normal(size=(count, 3)).astype(np.float16),
    }
    return LabelRows(**(integers | special))


def _with_more(rows: LabelRows) -> LabelRows:
    """The same views with every parameter that a view may have."""
    return replace(
        rows,
        band_rows=RNG.integers(0, 3, (len(rows), 3)),
        band_columns=RNG.integers(0, 3, (len(rows), 3)),
        change_operation=RNG.integers(0, 14, (len(rows), 2)),
        change_magnitude=RNG.normal(size=(len(rows), 2)),
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_images_survive_parquet(channels: int) -> None:
    images, table = _images_table(channels)
    rows = read_images_table(_through_parquet(table))
    np.testing.assert_array_equal(rows.images, images)
    assert rows.labels.tolist() == [2, 0, 1, 1]
    assert rows.ipc_ids.tolist() == [0, 0, 0, 1]
    assert rows.class_names == NAMES
    assert table.column("class_name").to_pylist() == ["owl", "cat", "dog", "dog"]


def test_an_images_table_of_several_chunks_and_of_none_is_read() -> None:
    images, table = _images_table()
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    np.testing.assert_array_equal(read_images_table(chunked).images, images)
    assert len(read_images_table(table.slice(0, 0)).images) == 0


def test_images_carry_the_features_that_hugging_face_datasets_reads() -> None:
    _, table = _images_table()
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": list(NAMES), "_type": "ClassLabel"}
    assert list(features) == table.column_names


@pytest.mark.parametrize("more", [False, True])
def test_label_rows_survive_parquet_exactly(more: bool) -> None:
    rows = _with_more(_label_rows()) if more else _label_rows()
    back = read_labels_table(_through_parquet(build_labels_table(rows, NAMES)))
    for column in fields(LabelRows):
        np.testing.assert_array_equal(getattr(back, column.name), getattr(rows, column.name))
    assert (back.band_rows is None) == (not more)
    assert back.logits.dtype == np.float16
    assert back.lam.dtype == np.float64


def test_labels_of_further_parameters_ask_for_a_reader_that_knows_them_and_others_do_not() -> None:
    rows = _label_rows()
    versions = [
        build_labels_table(one, NAMES).schema.metadata[b"edc_ray.schema_version"]
        for one in (rows, _with_more(rows))
    ]
    assert versions == [b"1", b"2"]


@pytest.mark.parametrize("more", [False, True])
def test_taking_and_concatenating_label_rows_gives_them_back(more: bool) -> None:
    rows = _with_more(_label_rows()) if more else _label_rows()
    back = LabelRows.concatenate([rows.take(slice(0, 1)), rows.take(np.array([1, 2, 3]))])
    for column in fields(LabelRows):
        np.testing.assert_array_equal(getattr(back, column.name), getattr(rows, column.name))
    assert len(back) == 4


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"crop_top": np.array([0, 0, 0, -1])}, "not in range"),
        ({"crop_width": np.array([0, 0, 0, 70000])}, "not in range"),
        ({"label": np.array([0, 1, 2, 3])}, "labels must lie in 0..2"),
        ({"label": np.array([0, 1, 2, -1])}, "labels must lie in 0..2"),
        ({"mix": np.array(["blend"] * 4)}, "mix must be one of"),
        ({"lam": np.zeros(3)}, "one length"),
        ({"logits": np.zeros((4, 3), np.float32)}, "logits must be float16"),
        ({"logits": np.zeros((4, 2), np.float16)}, "logits must be float16"),
        ({"logits": np.full((4, 3), np.inf, np.float16)}, "NaN or Inf"),
    ],
)
def test_label_rows_that_a_table_cannot_hold_are_refused(change: dict[str, np.ndarray], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        build_labels_table(replace(_label_rows(), **change), NAMES)


def test_statistics_of_both_scopes_survive_parquet_in_order() -> None:
    statistics: dict[StatisticKey, dict[str, np.ndarray | None]] = {
        ("layer1", "conv", "pooled", "class"): {
            "channel_mean": RNG.random((3, 8), np.float32),
            "channel_variance": RNG.random((3, 8), np.float32),
            "patch_mean": RNG.random((3, 4), np.float32),
            "patch_variance": RNG.random((3, 4), np.float32),
        },
        ("bn1", "bn", "official", "global"): {
            "channel_mean": RNG.random(8, np.float32),
            "channel_variance": RNG.random(8, np.float32),
            "patch_mean": None,
        },
    }
    back = read_statistics_table(_through_parquet(build_statistics_table(statistics, NAMES)))
    assert list(back) == list(statistics)
    for key, values in statistics.items():
        assert back[key]["patch_mean" if key[1] == "bn" else "channel_mean"] is not None or key[1] == "bn"
        for name, array in values.items():
            stored = back[key][name]
            assert (stored is None) == (array is None)
            if stored is not None and array is not None:
                np.testing.assert_array_equal(stored, array, strict=True)
                assert stored.flags.writeable
    assert back[("bn1", "bn", "official", "global")]["patch_variance"] is None


def test_results_with_further_columns_and_metadata_survive_parquet() -> None:
    first = {"row": "condensed", "ipc": 10, "student": "convnet", "seed": 0, "top1": 61.5, "top5": 90.0}
    rows = [first | {"ece": 0.25}, first | {"seed": 1, "top1": 60.0}]
    table = build_results_table(rows, NAMES, dataset="pets", metadata={"hardware": "2 CPUs"})
    back, metadata = read_results_table(_through_parquet(table))
    assert back == [rows[0], rows[1] | {"ece": None}]
    assert metadata == {"hardware": "2 CPUs"}


def test_every_table_states_its_schema_version_classes_and_dataset() -> None:
    tables = [
        _images_table()[1],
        build_labels_table(_label_rows(), NAMES, dataset="pets"),
        build_statistics_table({}, NAMES, dataset="pets"),
        build_results_table([], NAMES, dataset="pets"),
    ]
    for table in tables:
        metadata = table.schema.metadata
        assert metadata[b"edc_ray.schema_version"] == b"1"
        assert json.loads(metadata[b"edc_ray.class_names"]) == list(NAMES)
        assert metadata[b"edc_ray.dataset"] == b"pets"


def test_a_table_of_a_newer_version_asks_for_an_upgrade() -> None:
    _, table = _images_table()
    newer = table.replace_schema_metadata(table.schema.metadata | {b"edc_ray.schema_version": b"4"})
    with pytest.raises(ArtifactError, match=r"a\.parquet is of a newer edc-ray") as caught:
        read_images_table(newer, url="a.parquet")
    assert "upgrade" in str(caught.value)


def test_a_table_of_something_else_is_named() -> None:
    with pytest.raises(ArtifactError, match=r"a\.parquet is not a table of edc-ray"):
        read_images_table(pa.table({"image": [1]}), url="a.parquet")
    with pytest.raises(ArtifactError, match=r"a\.parquet lacks columns"):
        read_labels_table(_images_table()[1], url="a.parquet")


def test_images_and_labels_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError, match="1 images, 2 labels"):
        build_images_table(np.zeros((1, 3, 4, 4), np.uint8), np.zeros(2, int), np.zeros(1, int), NAMES)
