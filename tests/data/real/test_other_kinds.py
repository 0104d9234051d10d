import io
import tarfile
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from edc_ray.config.dataset import DatasetSpec
from edc_ray.data.real.sources import open_dataset
from edc_ray.errors import DataError


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/0.png", b"x")
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("0.jpg"))
    return buffer.getvalue()


def _arrow(stream: bool) -> bytes:
    sink, table = io.BytesIO(), pa.table({"label": [0]})
    opened = (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema)
    with opened as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "found", "advice"),
    [
        ("a.zip", _zip(), "a zip archive", "unpack it"),
        ("a.tar", _tar(), "a tar archive", "unpack it"),
        ("a.tar.xz", b"\xfd7zXZ\0", "an xz archive", "unpack it"),
        ("a.npz", _zip(), "a NumPy file", "module:factory"),
        ("a.pt", _zip(), "a file of another program's objects", "module:factory"),
        ("a.PNG", b"\x89PNG", "a single image", "name the folder"),
        ("data_batch_1", b"\x80\x04", "no Parquet file", "one folder for each class"),
        ("a.arrow", _arrow(stream=False), "an Arrow file", "to_parquet"),
        ("a.arrow", _arrow(stream=True), "an Arrow stream", "to_parquet"),
        ("index", b"\n<!DOCTYPE html><html>listing</html>", "a web page", "a web server"),
        ("a.parquet", b"<html>404</html>", "a web page", "a web server"),
        ("a.csv", b"file,label\na.png,cat\n", "a text file", "one folder for each class"),
        ("a.npy", np.lib.format.magic(1, 0), "a NumPy file", "module:factory"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, name, content, found, advice) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"(?s){name} is {found}.*{advice}") as caught:
        open_dataset(DatasetSpec(train=f"{tmp_path}/{name}"), seed=0)
    assert "fetch or write it again" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["dataset_info.json", "data-00000-of-00001.arrow"], "datasets.save_to_disk"),
        (["shard-000.tar", "shard-001.tar"], "WebDataset"),
        (["train.zip"], "zip archives"),
        (["images.tgz"], "tgz archives"),
        (["x.npz", "y.npz", "notes.txt"], r"files of arrays(.|\n)*module:factory"),
        (["labels.csv"], r"no images in(.|\n)*module:factory"),
    ],
)
def test_a_folder_of_another_kind_is_called_what_it_is(names: list[str], found: str) -> None:
    files, root = fsspec.filesystem("memory"), f"/other-kinds-{len(names)}-{names[0][:5]}"
    for name in names:
        files.pipe_file(f"{root}/{name}", b"x")
    with pytest.raises(DataError, match=found):
        open_dataset(DatasetSpec(train=f"memory:/{root}"), seed=0)
