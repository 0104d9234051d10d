import json
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from edc_ray.artifacts.tables import parquet_groups
from edc_ray.data.real.parquet import read_parquet
from edc_ray.data.real.undecoded import Decoding, decode_rows
from edc_ray.errors import DataError
from tests.artifacts.parquet_files import with_larger_page, written
from tests.data.made_images import synthetic_images, write_parquet


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


def test_threads_that_share_a_reader_take_turns_at_its_files(tmp_path, monkeypatch) -> None:
    write_parquet(synthetic_images(3, 4, 8), f"{tmp_path}/a.parquet", row_group_size=1)
    read = _read(tmp_path / "a.parquet")
    expected = pickle.loads(pickle.dumps(read.reader)).read(read.rows)
    inside, plain = [0], parquet_groups.ParquetGroups.read

    def slowly(self, *asked) -> pa.Table:
        inside[0] += 1
        time.sleep(0.001)
        assert inside[0] == 1
        inside[0] -= 1
        return plain(self, *asked)

    monkeypatch.setattr(parquet_groups.ParquetGroups, "read", slowly)
    with ThreadPoolExecutor(4) as pool:
        assert all(found == expected for found in pool.map(read.reader.read, [read.rows] * 8))


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
        ({"image": ["a.png"], "label": [0]}, r"holds no encoded images(.|\n)*paths, URLs or base64"),
        ({"image": [b"x"], "label": [[0]]}, r"neither integers nor names(.|\n)*list"),
        ({"image": [b"x"], "label": [float("nan")]}, "1 of 1 rows of .* have no label"),
        ({"image": [b"x"], "label": [float("inf")]}, "neither integers nor names"),
        ({"image": [b"x"] * 3, "label": ["a", "", " "]}, "2 of 3 rows of .* have no label"),
        ({"image": pa.array([b"x"]), "label": pa.array([2**63], pa.uint64())}, "neither integers"),
        ({"image": [b"x"], "label": [0.5]}, "neither integers nor names"),
        ({"image": [b"x", b"y"], "label": [0, None]}, "1 of 2 rows of .* have no label"),
    ],
)
def test_other_layouts_are_refused(tmp_path, columns: dict, message: str) -> None:
    _write(tmp_path / "a.parquet", columns)
    with pytest.raises(DataError, match=message):
        _read(tmp_path / "a.parquet")


def test_an_image_that_is_not_in_the_file_is_named(tmp_path) -> None:
    _write(tmp_path / "a.parquet", {"image": [b"x", None], "label": [0, 1]})
    read = _read(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"(?s)image .*a\.parquet row 1.*no bytes.*not beside it"):
        decode_rows(read.reader, np.array([1]), Decoding(3, 8))


@pytest.mark.parametrize(
    ("columns", "options", "labels", "names"),
    [
        ({"img": [b"x"] * 2, "coarse_label": [5, 3]}, {}, [5, 3], None),
        ({"jpg": [b"x"] * 2, "cls": [1, 0], "__key__": ["a", "b"]}, {}, [1, 0], None),
        ({"Image": [b"x"] * 2, "Label": [1, 0]}, {}, [1, 0], None),
        ({"image": [b"x"] * 2, "class_id": [1, 0]}, {}, [1, 0], None),
        ({"image": [b"x"] * 2, "target": [True, False]}, {}, [1, 0], None),
        ({"image": [b"x"] * 2, "label": [3.0, 1.0]}, {}, [3, 1], None),
        (
            {"photo": [b"x"] * 2, "kind": [1, 0]},
            {"image_column": "photo", "label_column": "kind"},
            [1, 0],
            None,
        ),
        ({"image": [b"x"] * 2, "label": [7, 7], "labels": [1, 0]}, {"label_column": "labels"}, [1, 0], None),
        ({"image": pa.array([b"x"] * 2, pa.binary_view()), "label": [1, 0]}, {}, [1, 0], None),
        ({"image": pa.array([b"x"] * 2, pa.large_binary()), "label": [1, 0]}, {}, [1, 0], None),
        ({"image": pa.array([b"x"] * 2).dictionary_encode(), "label": [1, 0]}, {}, [1, 0], None),
        ({"image": [b"x"] * 2, "label": pa.array(["b", "a"], pa.string_view())}, {}, [1, 0], ("a", "b")),
        ({"image": [b"x"] * 2, "label": pa.array(["b", "a"]).dictionary_encode()}, {}, [1, 0], ("a", "b")),
        ({"image": [b"x"] * 2, "label": pa.array([4, 2]).dictionary_encode()}, {}, [4, 2], None),
    ],
)
def test_columns_and_types_that_people_have_are_read(tmp_path, columns, options, labels, names) -> None:
    _write(tmp_path / "a.parquet", columns)
    read = read_parquet(fsspec.filesystem("file"), [f"{tmp_path}/a.parquet"], "here", **options)
    assert read.labels.tolist() == labels
    assert read.class_names == names
    assert read.reader.read([1, 0]) == [b"x", b"x"]


def test_a_choice_between_several_columns_is_said(tmp_path, caplog) -> None:
    _write(tmp_path / "a.parquet", {"image": [b"x"], "label": [0], "labels": [1]})
    assert _read(tmp_path / "a.parquet").labels.tolist() == [0]
    assert "takes 'label' for the labels, not 'labels' (dataset.label_column)" in caplog.text
    with pytest.raises(DataError, match=r"no column 'kind'(.|\n)*columns image, label, labels"):
        read_parquet(fsspec.filesystem("file"), [f"{tmp_path}/a.parquet"], "here", label_column="kind")


def test_shards_may_spell_their_columns_differently_but_have_one_kind_of_labels(tmp_path) -> None:
    _write(tmp_path / "a.parquet", {"image": [b"x"], "label": [1]})
    _write(tmp_path / "b.parquet", {"img": [b"y"], "labels": [0]})
    _write(tmp_path / "c.parquet", {"img": [b"y"], "labels": ["0"]})
    read = _read(tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert (read.labels.tolist(), read.reader.read([1, 0])) == ([1, 0], [b"y", b"x"])
    with pytest.raises(DataError, match=r"two kinds(.|\n)*names in .*c\.parquet, integers in .*a\.parquet"):
        _read(tmp_path / "a.parquet", tmp_path / "c.parquet")


def test_a_truncated_file_is_named(tmp_path) -> None:
    write_parquet(synthetic_images(2, 2, 8), f"{tmp_path}/a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[:-20])
    with pytest.raises(DataError, match=r"(?s)cannot read .*a\.parquet.*next: +fetch or write it again$"):
        _read(tmp_path / "a.parquet")


@pytest.mark.parametrize("encoded", ["caption", "image.path", "image.bytes"])
def test_values_that_share_prefixes_are_read(tmp_path, encoded: str) -> None:
    images = [{"bytes": bytes([row] * 9), "path": f"images/{row}.png"} for row in range(6)]
    table = pa.table({"image": images, "label": [0] * 6, "caption": [f"a cat {row}" for row in range(6)]})
    data = written(table, use_dictionary=False, column_encoding={encoded: "DELTA_BYTE_ARRAY"})
    (tmp_path / "a.parquet").write_bytes(data)
    assert _read(tmp_path / "a.parquet").reader.read([5, 0]) == [bytes([5] * 9), bytes(9)]


def test_a_damaged_column_that_is_not_read_does_no_harm(tmp_path) -> None:
    table = pa.table({"image": [b"x"] * 9, "label": [0] * 9, "caption": [f"a cat {row}" for row in range(9)]})
    data = with_larger_page(written(table, use_dictionary=False), 2)
    (tmp_path / "a.parquet").write_bytes(data)
    assert _read(tmp_path / "a.parquet").reader.read([5]) == [b"x"]


def test_an_image_column_has_one_form_in_each_file(tmp_path) -> None:
    _write(tmp_path / "a.parquet", {"image": [b"x"], "label": [0]})
    _write(tmp_path / "b.parquet", {"image": [{"path": "y.png", "bytes": b"y"}], "label": [0]})
    assert _read(tmp_path / "a.parquet", tmp_path / "b.parquet").reader.read([1, 0]) == [b"y", b"x"]


def test_files_that_name_other_classes_are_refused(tmp_path) -> None:
    for name, classes in (("a", ["cat", "dog"]), ("b", ["dog", "cat"])):
        _write(tmp_path / f"{name}.parquet", {"image": [b"x"], "fine_label": [0]}, classes)
    with pytest.raises(DataError, match="name different classes"):
        _read(tmp_path / "a.parquet", tmp_path / "b.parquet")


class _Counting(MemoryFileSystem):
    """Tells how many bytes were asked for, as an asynchronous storage is asked; opens no files."""

    cachable = False
    async_impl = True
    fetched = 0

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: object) -> bytes:
        data = super().cat_file(path, start=start, end=end)
        self.fetched += len(data)
        return data

    def _open(self, *args: object, **kwargs: object) -> object:
        raise AssertionError("a file that reads ahead")


def _many_groups(tmp_path: Path, groups: int) -> bytes:
    images = [np.random.default_rng(n).bytes(4000) for n in range(groups * 4)]
    table = {"image": [{"bytes": data, "path": None} for data in images], "label": [0] * len(images)}
    pq.write_table(pa.table(table), tmp_path / "many.parquet", row_group_size=4, write_statistics=False)
    return (tmp_path / "many.parquet").read_bytes()


def test_no_more_is_fetched_of_a_remote_file_than_what_is_read(tmp_path) -> None:
    data, filesystem = _many_groups(tmp_path, 300), _Counting()
    MemoryFileSystem().pipe_file("/counted/many.parquet", data)
    images = read_parquet(filesystem, ["/counted/many.parquet"], "here")
    assert len(images.labels) == 1200
    group = pq.read_metadata(tmp_path / "many.parquet").row_group(0)
    stored = sum(group.column(place).total_compressed_size for place in range(2))
    footer = int.from_bytes(data[-8:-4], "little")
    assert filesystem.fetched < 2**16 + footer + 300 * 200
    filesystem.fetched = 0
    images.reader.read([0])  # and the footer, for the first time
    assert filesystem.fetched < 2**16 + footer + 1.1 * stored
    filesystem.fetched = 0
    assert images.reader.read([600, 603])[0] == np.random.default_rng(600).bytes(4000)
    assert filesystem.fetched < 1.1 * stored


def test_the_footer_is_read_once_for_all_row_groups(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "many.parquet").write_bytes(_many_groups(tmp_path, 20))
    reader, calls = _read(tmp_path / "many.parquet").reader, []
    once = parquet_groups.pq.read_metadata
    monkeypatch.setattr(parquet_groups.pq, "read_metadata", lambda *given: calls.append(1) or once(*given))
    everything = reader.read(range(80))
    assert len(calls) == 1
    again = pickle.loads(pickle.dumps(reader))
    assert again.read(range(80)) == everything
    assert len(calls) == 2


def test_files_of_an_object_storage_are_never_opened(tmp_path, s3_url: str, monkeypatch) -> None:
    filesystem, path = fsspec.core.url_to_fs(f"{s3_url}/many.parquet")
    filesystem.pipe_file(path, _many_groups(tmp_path, 5))
    monkeypatch.setattr(type(filesystem), "_open", lambda *_, **__: pytest.fail("a file that reads ahead"))
    images = read_parquet(filesystem, [path], "there")
    assert images.reader.read([19, 3]) == [np.random.default_rng(row).bytes(4000) for row in (19, 3)]


def test_rows_of_several_splits_are_refused(tmp_path, caplog) -> None:
    columns = {"image": [b"x"] * 4, "label": [0, 1, 0, 1]}
    _write(tmp_path / "a.parquet", columns | {"Split": ["train", "train", "test", "test"]})
    with pytest.raises(DataError, match=r"are of several splits(.|\n)*test, train in column 'Split'"):
        _read(tmp_path / "a.parquet")
    _write(tmp_path / "a.parquet", columns | {"split": ["train"] * 4})
    assert len(_read(tmp_path / "a.parquet").labels) == 4
    assert not caplog.records
    _write(tmp_path / "b.parquet", columns | {"split": ["test"] * 4})
    paths = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    with pytest.raises(DataError, match=r"are of several splits(.|\n)*test, train in column 'split'"):
        read_parquet(fsspec.filesystem("file"), paths, "two files")
    _write(tmp_path / "a.parquet", columns | {"is_train": [True, True, True, False]})
    with pytest.raises(DataError, match=r"are of several splits(.|\n)*False, True in column 'is_train'"):
        _read(tmp_path / "a.parquet")
    _write(tmp_path / "a.parquet", columns | {"fold": [0, 1, 2, 3]})
    assert len(_read(tmp_path / "a.parquet").labels) == 4
    assert "takes all rows, whatever column 'fold' says: 0, 1, 2, 3" in caplog.text
