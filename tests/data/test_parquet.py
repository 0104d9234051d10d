import json
import pickle

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edc_ray.data.fake import synthetic_images, write_parquet
from edc_ray.data.parquet import choose_split, read_parquet
from edc_ray.errors import DataError


def _read(*paths: object):
    return read_parquet(fsspec.filesystem("file"), [str(path) for path in paths], "here")


def _write(path: object, columns: dict, names: object = None) -> None:
    table = pa.table(columns)
    if names is not None:
        info = {"info": {"features": {"fine_label": {"names": names}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, str(path))


def test_scattered_rows_of_several_files_come_in_the_order_asked_for(tmp_path) -> None:
    images = synthetic_images(3, 4, 8)
    write_parquet(images, f"{tmp_path}/a.parquet", row_group_size=2)
    write_parquet(images, f"{tmp_path}/b.parquet", row_group_size=5)
    read = _read(tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert read.labels.tolist() == [*images.labels, *images.labels]
    assert read.class_names == images.class_names
    everything = read.reader.read(read.rows)
    rows = np.random.default_rng(0).permutation(24)
    again = pickle.loads(pickle.dumps(read.reader))
    assert again.read(rows) == [everything[row] for row in rows]
    assert everything[:12] == everything[12:]
    assert again.name(13) == f"{tmp_path}/b.parquet row 1"


def test_columns_of_the_cifar_files_and_old_class_names_are_known(tmp_path) -> None:
    _write(
        tmp_path / "a.parquet",
        {"img": [b"x", b"y"], "fine_label": [1, 0], "coarse_label": [5, 5]},
        {"1": "dog", "0": "cat"},
    )
    read = _read(tmp_path / "a.parquet")
    assert read.labels.tolist() == [1, 0]
    assert read.class_names == ("cat", "dog")
    assert read.reader.read([1]) == [b"y"]


def test_labels_that_are_names_are_numbered_in_sorted_order(tmp_path) -> None:
    _write(tmp_path / "a.parquet", {"image": [b"x", b"y", b"z"], "label": ["dog", "cat", "dog"]})
    read = _read(tmp_path / "a.parquet")
    assert read.class_names == ("cat", "dog")
    assert read.labels.tolist() == [1, 0, 1]


def test_integers_without_names_stay_without(tmp_path) -> None:
    _write(tmp_path / "a.parquet", {"image": [b"x"], "label": [3]})
    assert _read(tmp_path / "a.parquet").class_names is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [b"x"]}, "columns image"),
        ({"pixels": [b"x"], "label": [0]}, "columns pixels, label"),
        ({"image": ["a.png"], "label": [0]}, "holds no encoded images"),
        ({"image": [b"x"], "label": [0.5]}, "neither integers nor names"),
        ({"image": [b"x", b"y"], "label": [0, None]}, "1 rows of .* have no label"),
    ],
)
def test_other_layouts_are_refused(tmp_path, columns: dict, message: str) -> None:
    _write(tmp_path / "a.parquet", columns)
    with pytest.raises(DataError, match=message):
        _read(tmp_path / "a.parquet")


def test_an_image_that_is_not_in_the_file_is_named(tmp_path) -> None:
    _write(tmp_path / "a.parquet", {"image": [b"x", None], "label": [0, 1]})
    with pytest.raises(DataError, match=r"no image bytes in .*a\.parquet row 1"):
        _read(tmp_path / "a.parquet").reader.read([0, 1])


def test_a_truncated_file_is_named(tmp_path) -> None:
    write_parquet(synthetic_images(2, 2, 8), f"{tmp_path}/a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[:-20])
    with pytest.raises(DataError, match=r"cannot read .*a\.parquet"):
        _read(tmp_path / "a.parquet")


def test_files_that_name_other_classes_are_refused(tmp_path) -> None:
    for name, classes in (("a", ["cat", "dog"]), ("b", ["dog", "cat"])):
        _write(tmp_path / f"{name}.parquet", {"image": [b"x"], "fine_label": [0]}, classes)
    with pytest.raises(DataError, match="name different classes"):
        _read(tmp_path / "a.parquet", tmp_path / "b.parquet")


def test_a_folder_of_splits_gives_each_role_its_own() -> None:
    paths = [
        "d/test-00000-of-00001.parquet",
        "d/train-00001-of-00002.parquet",
        "d/train-00000-of-00002.parquet",
    ]
    assert choose_split(paths, "train") == sorted(paths)[1:]
    assert choose_split(paths, "val") == paths[:1]
    assert choose_split(["d/validation-0.parquet", *paths], "val") == ["d/validation-0.parquet"]
    assert choose_split(["d/b.parquet", "d/a.parquet"], "val") == ["d/a.parquet", "d/b.parquet"]
