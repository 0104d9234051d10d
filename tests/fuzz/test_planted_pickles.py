"""A pickle that leaves a mark where it is unpickled, planted wherever a file could hold one."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from edc_ray.errors import EdcRayError
from tests.data.planted import Planted
from tests.fuzz.readers import READERS

TABLES = ("images", "labels", "labels_q4", "labels_top", "statistics", "results", "dataset")


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[Planted]:
    """Unpickled by no reader: its mark is looked for at the end of the test."""
    mark = tmp_path / "owned"
    yield Planted(mark)
    assert not mark.exists()


def _read_by(data: bytes, names: list[str]) -> None:
    for name in names:
        try:
            READERS[name].read(data)
        except EdcRayError:
            continue


def _zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _saved_by_torch(value: object, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _saved_by_numpy(value: object) -> tuple[bytes, bytes]:
    array = np.array([value], dtype=object)
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, array, allow_pickle=True)
    np.savez(npz, mean=array, allow_pickle=True)
    return npy.getvalue(), npz.getvalue()


def test_the_planted_object_leaves_a_mark_where_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Planted(tmp_path / "owned")))
    assert (tmp_path / "owned").exists()


def test_files_that_are_pickles_are_unpickled_by_no_reader(planted: Planted) -> None:
    raw = pickle.dumps(planted)
    files = [
        raw,
        pickle.dumps(planted, 0),
        *_saved_by_numpy(planted),
        _saved_by_torch(planted),
        _saved_by_torch({"state_dict": planted}),
        _saved_by_torch([planted] * 8),
        _saved_by_torch(planted, zipped=False),
        _zipped({"archive/data.pkl": raw, "archive/version": b"3\n"}),
        _zipped({"mean.npy": raw, "mean.pkl": raw}),
        len(raw).to_bytes(8, "little") + raw,
    ]
    for data in files:
        _read_by(data, list(READERS))


@pytest.mark.parametrize("name", TABLES)
def test_pickles_in_the_metadata_of_a_table_are_not_unpickled(name: str, planted: Planted) -> None:
    raw = pickle.dumps(planted)
    table = pq.read_table(pa.BufferReader(READERS[name].whole()))
    about = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": raw,
        b"PARQUET:pickle": raw,
    }
    fields = [field.with_metadata(about) for field in table.schema]
    pandas = {b"pandas": json.dumps({"index_columns": [], "columns": [], "creator": {}}).encode()}
    schema = pa.schema(fields, {**(table.schema.metadata or {}), **about, **pandas})
    sink = pa.BufferOutputStream()
    pq.write_table(table.cast(schema), sink)
    _read_by(sink.getvalue().to_pybytes(), [name])


@pytest.mark.parametrize("name", TABLES)
def test_pickles_in_every_column_of_a_table_are_not_unpickled(name: str, planted: Planted) -> None:
    table = pq.read_table(pa.BufferReader(READERS[name].whole()))
    cells = pa.array([_saved_by_numpy(planted)[1]] * table.num_rows, pa.binary())
    for place, column in enumerate(table.column_names):
        sink = pa.BufferOutputStream()
        pq.write_table(table.set_column(place, column, cells), sink)
        _read_by(sink.getvalue().to_pybytes(), [name])


@pytest.mark.parametrize(
    "tag", ["object/apply:os.mkdir", "object/new:os.mkdir", "object/apply:builtins.exec"]
)
def test_tags_of_python_objects_in_yaml_make_nothing(tag: str, planted: Planted) -> None:
    argument = f"__import__('os').mkdir({str(planted.path)!r})" if "exec" in tag else str(planted.path)
    _read_by(f"method: !!python/{tag} [{json.dumps(argument)}]\n".encode(), ["config"])
