"""Layouts of condensed images are told apart by the files that are there."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import encode_image, table_to_bytes
from edc_ray.errors import ArtifactError, DataError
from edc_ray.sharing.formats.folders import open_condensed_folder
from tests.artifacts.parquet_files import written
from tests.sharing.formats.test_tars import tar

SLOTS = [(label, ipc_id) for label in range(3) for ipc_id in range(2)]
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
BYTES = [encode_image(image) for image in IMAGES]


@pytest.fixture
def store(tmp_path: object) -> Store:
    return open_store(str(tmp_path))


def write_table(store: Store, path: str, rows: list[int], **columns: object) -> None:
    """A table as others write it: no more than an image and its class."""
    given = {"class_id": [SLOTS[row][0] for row in rows]} | columns
    images = pa.array([{"bytes": BYTES[row], "path": None} for row in rows])
    table = pa.table({"image": images, **{name: pa.array(values) for name, values in given.items()}})  # type: ignore[arg-type]
    store.publish(path, table_to_bytes(table), replace=True)


def check(store: Store) -> None:
    folder = open_condensed_folder(store.url)
    order = [folder.slots.index(slot) for slot in SLOTS]
    np.testing.assert_array_equal(folder.read(order), IMAGES)
    assert (folder.num_classes, folder.ipc) == (3, 2)


def official(store: Store) -> None:
    for (label, ipc_id), data in zip(SLOTS, BYTES, strict=True):
        store.publish(f"new{label:03d}/class{label:03d}_id{ipc_id:03d}.png", data)


def tree(store: Store) -> None:
    for (label, ipc_id), data in zip(SLOTS, BYTES, strict=True):
        store.publish(f"train/{label:05d}/class{label:05d}_id{ipc_id:05d}.png", data)


def tables(store: Store) -> None:
    for number, rows in enumerate(([0, 2, 4], [1, 3, 5])):
        write_table(store, f"data/train-{number}.parquet", rows)


def tars(store: Store) -> None:
    for number, rows in enumerate(([0, 2, 4], [1, 3, 5])):
        members = dict[str, bytes]()
        for row in rows:
            about = {"label": SLOTS[row][0], "ipc_id": SLOTS[row][1]}
            members |= {f"{row}.png": BYTES[row], f"{row}.json": json.dumps(about).encode()}
        store.publish(f"some-{number}.tar", tar(members))


@pytest.mark.parametrize("write", [official, tree, tables, tars])
def test_each_layout_gives_the_same_images(store: Store, write: Callable[[Store], None]) -> None:
    write(store)
    check(store)


def test_ipc_ids_that_a_table_states_count(store: Store) -> None:
    write_table(store, "data/a.parquet", [1, 0, 2, 3, 4, 5], ipc_id=[1, 0, 0, 1, 0, 1])
    check(store)


def test_class_names_are_read_where_they_fit(store: Store) -> None:
    tree(store)
    assert open_condensed_folder(store.url).class_names is None
    for names, found in (
        (["a", "b", "c"], ("a", "b", "c")), (["a"], None), ({"a": 1}, None), ([1, 2, 3], None),
    ):  # fmt: skip
        store.publish("class_names.json", json.dumps(names).encode(), replace=True)
        assert open_condensed_folder(store.url).class_names == found
    store.publish("class_names.json", b"[" * 100_000, replace=True)
    assert open_condensed_folder(store.url).class_names is None


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"class_id": [0, 0, 1, 1, 2, 2**62]}, "an image of no class"),
        ({"class_id": [0, 0, 1, 1, 2, -1]}, "an image of no class"),
        ({"class_id": ["a"] * 6}, "holds no numbers"),
        ({"class_id": [0, 0, 1, 1, 2, None]}, "holds no numbers"),
        ({"class_id": [0, 0, 1, 1, 1, 2]}, "different numbers of images"),
        ({"image": ["a"] * 6}, "holds no encoded images"),
    ],
)
def test_tables_that_are_no_whole_set_are_refused(
    store: Store, columns: dict[str, list[object]], match: str
) -> None:
    write_table(store, "data/a.parquet", list(range(6)), **columns)
    with pytest.raises(DataError, match=match):
        open_condensed_folder(store.url).read(range(6))


def test_images_of_large_columns_are_read(store: Store) -> None:
    kinds = pa.large_binary(), pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
    for kind, images in zip(
        kinds, (BYTES, [{"bytes": data, "path": "a.png"} for data in BYTES]), strict=True
    ):
        write_table(store, "data/a.parquet", list(range(6)), image=pa.array(images, kind))
        check(store)


def test_columns_that_are_not_needed_may_be_of_any_encoding(store: Store) -> None:
    images = pa.array([{"bytes": data, "path": f"images/{row}.png"} for row, data in enumerate(BYTES)])
    labels = pa.array([label for label, _ in SLOTS])
    table = pa.table({"image": images, "class_id": labels, "caption": [f"a cat {row}" for row in range(6)]})
    for encoded in ("caption", "image.path", "image.bytes"):
        data = written(table, use_dictionary=False, column_encoding={encoded: "DELTA_BYTE_ARRAY"})
        store.publish("data/a.parquet", data, replace=True)
        check(store)


def test_a_damaged_table_of_others_says_to_fetch_it_again(store: Store) -> None:
    write_table(store, "data/a.parquet", list(range(6)))
    store.publish("data/a.parquet", store.read("data/a.parquet")[:-9], replace=True)
    with pytest.raises(
        ArtifactError, match=r"(?s)a\.parquet is damaged.*next: +fetch it anew, or write it anew$"
    ):
        open_condensed_folder(store.url)


def test_a_table_without_classes_is_named(store: Store) -> None:
    store.publish("a.parquet", table_to_bytes(pa.table({"image": [b"x"]})))
    with pytest.raises(DataError, match=r"a\.parquet holds no labelled images"):
        open_condensed_folder(store.url)


def test_compressed_tars_alone_are_to_be_decompressed(store: Store) -> None:
    store.publish("a.tar.gz", b"x")
    store.publish("README.md", b"x")
    with pytest.raises(DataError, match=r"(?s)compressed tar files\n.*a\.tar\.gz\n.*next: +decompress them"):
        open_condensed_folder(store.url)
    official(store)  # of the same images, perhaps
    check(store)


def test_tars_that_hold_no_images_or_are_none_are_named(store: Store) -> None:
    store.publish("a.tar", tar({"README.md": b"x"}))
    with pytest.raises(DataError, match=r"no images in (?s:.*)KEY\.png and KEY\.cls"):
        open_condensed_folder(store.url)
    store.publish("a.tar", b"x", replace=True)
    with pytest.raises(ArtifactError, match=r"a\.tar is no tar file of images"):
        open_condensed_folder(store.url)
