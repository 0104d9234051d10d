"""A pickle that leaves a mark where it is unpickled, planted wherever a file could hold one."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from edc_ray.artifacts.proof.garbage import find_garbage
from edc_ray.artifacts.proof.manifest import verify_run
from edc_ray.artifacts.storage.store import open_store
from edc_ray.config.dataset import DatasetSpec
from edc_ray.config.run import STAGE_NAMES
from edc_ray.data.condensed.stream import CondensedDataset
from edc_ray.data.real.sources import open_dataset
from edc_ray.errors import EdcRayError
from edc_ray.sharing.compress import compress_run
from edc_ray.sharing.export.target import export_problems
from edc_ray.sharing.formats.folders import open_condensed_folder
from tests.data.planted import Planted
from tests.data.written_sets import write_images, write_labels
from tests.fuzz.mutations import vouched_for
from tests.fuzz.readers import READERS

TABLES = (
    "images", "labels", "labels_q4", "labels_top", "statistics", "results", "dataset", "label_epochs",
    "label_epochs_top", "compress", "shared",
)  # fmt: skip


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[Planted]:
    """No reader may unpickle it: the test ends by looking for its mark."""
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
    names = ("mean", "running_dd_mean", "running_dd_var", "running_patch_mean", "running_patch_var")
    np.savez(npz, allow_pickle=True, **dict.fromkeys(names, array))
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


def _planted_files(planted: Planted) -> list[bytes]:
    return [pickle.dumps(planted), *_saved_by_numpy(planted), _saved_by_torch([planted] * 8)]


@pytest.mark.parametrize("codec", ["fp16", "pca8_top1_q5"])
def test_a_pickle_in_the_place_of_any_file_of_a_set_is_not_unpickled(
    codec: str, planted: Planted, tmp_path: Path
) -> None:
    store = open_store(str(tmp_path / "set"))
    write_labels(store, write_images(store), codec=codec)
    files = {path: Path(store.url, path).read_bytes() for path in store.list()}
    for path in files:
        for data in _planted_files(planted):
            is_table = path.endswith(".parquet")
            changed = vouched_for(files, path, data) if is_table else {path: data}
            for name, content in (files | changed).items():
                Path(store.url, name).write_bytes(content)
            assert verify_run(store)
            with suppress(EdcRayError):
                list(CondensedDataset(store.url, batch_size=4, cache=None))
            with suppress(EdcRayError):
                compress_run(store.url, str(tmp_path / "copy"), codec="q4")
            find_garbage(store, 0, STAGE_NAMES)


def test_a_pickle_in_the_place_of_any_file_of_an_import_is_not_unpickled(
    planted: Planted, tmp_path: Path
) -> None:
    """Every layout that `edc-ray import` and `dataset.train` know."""
    good = READERS["png"].whole()
    layouts: list[dict[str, bytes]] = [
        {"data/train-00000-of-00001.parquet": READERS["shared"].whole(), "edc_ray.json": b"{}"},
        {
            "new000/class000_id000.jpg": good,
            "new001/class001_id000.jpg": good,
            "class_names.json": b'["a","b"]',
        },
        {"train/00000/class00000_id00000.png": good, "train/00001/class00001_id00000.png": good},
    ]
    places = [(layout, path) for layout in layouts for path in layout]
    for number, (layout, path) in enumerate(places):
        for kind, data in enumerate(_planted_files(planted)):
            root = tmp_path / f"{number}-{kind}"
            for name, content in (layout | {path: data}).items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content)
            export_problems(open_store(str(root)))
            with suppress(EdcRayError):
                folder = open_condensed_folder(str(root))
                folder.read(range(len(folder.files)))
            with suppress(EdcRayError):
                images = open_dataset(DatasetSpec(train=str(root)), 0).train
                images.fetch(range(len(images)))


@pytest.mark.parametrize(
    "tag", ["object/apply:os.mkdir", "object/new:os.mkdir", "object/apply:builtins.exec"]
)
def test_tags_of_python_objects_in_yaml_make_nothing(tag: str, planted: Planted) -> None:
    argument = f"__import__('os').mkdir({str(planted.path)!r})" if "exec" in tag else str(planted.path)
    _read_by(f"method: !!python/{tag} [{json.dumps(argument)}]\n".encode(), ["config"])
