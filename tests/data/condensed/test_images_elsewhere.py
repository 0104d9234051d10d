"""Other libraries read a condensed set, as docs/READING.md says: the document's own code runs here."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edc_ray.artifacts.storage.store import open_store
from edc_ray.artifacts.tables.schema import LabelRows
from edc_ray.data.condensed.stream import CondensedDataset
from tests.data.written_sets import NAMES, SLOTS, write_images, write_labels

DOCUMENT = Path(__file__).parents[3] / "docs" / "READING.md"


@pytest.fixture
def written(tmp_path: Path) -> tuple[str, np.ndarray, list[LabelRows]]:
    """URL, images and label rows of each epoch."""
    store = open_store(str(tmp_path / "run"))
    images = write_images(store)
    return store.url, images, [rows for _, rows in write_labels(store, images)]


def run_documented(library: str, url: str) -> dict[str, Any]:
    """Run the document's code that imports a library; the names that the code defines."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    wanted = [block for block in blocks if re.search(rf"(import|from) .*\b{library}\b", block)]
    # The tests of exports read an export, and the tests of S3 read a bucket.
    elsewhere = ("{COPY}",) if library == "fsspec" else ("{COPY}", "fsspec")
    code = "\n".join(block for block in wanted if not any(word in block for word in elsewhere))
    names: dict[str, Any] = {"URL": url}
    exec(compile(code, str(DOCUMENT), "exec"), names)
    return names


def _assert_pixels(encoded: bytes, image: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded))).transpose(2, 0, 1), image)


def _assert_slots(labels: Any, ipc_ids: Any) -> None:
    assert sorted(zip(labels, ipc_ids, strict=True)) == SLOTS


def test_a_loader_of_pytorch(written: tuple[str, np.ndarray, list[LabelRows]], tmp_path: Path) -> None:
    names = run_documented("CondensedDataset", written[0])
    dataset = names["dataset"]
    assert list(dataset) == []  # resumes after the last batch
    last = list(CondensedDataset(written[0], batch_size=4, num_epochs=3))[-1]
    assert torch.equal(names["batch"].image, last.image)


def test_hugging_face_decodes_images_and_names_classes(
    written: tuple[str, np.ndarray, list[LabelRows]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, images, epochs = written
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    rows = run_documented("datasets", url)["images"]
    assert rows.features["label"].names == list(NAMES)
    _assert_slots(rows["label"], rows["ipc_id"])
    for row in rows:
        assert (row["class_name"], row["image"].mode) == (NAMES[row["label"]], "RGB")
        pixels = np.asarray(row["image"]).transpose(2, 0, 1)
        np.testing.assert_array_equal(pixels, images[SLOTS.index((row["label"], row["ipc_id"]))])
    labels = datasets.load_dataset("parquet", data_files=f"{url}/labels/*.parquet", split="train")
    stored = np.concatenate([rows.logits for rows in epochs])
    np.testing.assert_array_equal(np.array(labels["logits"], np.float16), stored)


def test_pandas(written: tuple[str, np.ndarray, list[LabelRows]]) -> None:
    url, images, epochs = written
    names = run_documented("pandas", url)
    frame, labels = names["images"], names["labels"].sort_values("epoch", kind="stable")
    _assert_slots(frame["label"], frame["ipc_id"])
    for label, ipc_id, name, image in zip(
        frame["label"], frame["ipc_id"], frame["class_name"], frame["image"], strict=True
    ):
        assert name == NAMES[label]
        _assert_pixels(image["bytes"], images[SLOTS.index((label, ipc_id))])
    stored = np.concatenate([rows.logits for rows in epochs])
    np.testing.assert_array_equal(np.stack(list(labels["logits"])), stored)


def test_pyarrow(written: tuple[str, np.ndarray, list[LabelRows]]) -> None:
    names = run_documented("pyarrow", written[0])
    table = names["images"].to_pydict()
    _assert_slots(table["label"], table["ipc_id"])
    for label, ipc_id, image in zip(table["label"], table["ipc_id"], table["image"], strict=True):
        _assert_pixels(image["bytes"], written[1][SLOTS.index((label, ipc_id))])
    logits = np.array(names["logits"].column("logits").to_pylist(), np.float16)
    np.testing.assert_array_equal(logits, written[2][2].logits)


def test_duckdb(written: tuple[str, np.ndarray, list[LabelRows]]) -> None:
    url, images, epochs = written
    duckdb = pytest.importorskip("duckdb")
    names = run_documented("duckdb", url)
    found = names["images"].fetchall()
    assert [(name, ipc_id) for name, ipc_id, _ in found] == [(NAMES[label], k) for label, k in SLOTS]
    for (_, _, encoded), image in zip(found, images, strict=True):
        _assert_pixels(encoded, image)
    mine = [np.flatnonzero((rows.label == 0) & (rows.ipc_id == 0))[0] for rows in epochs]
    expected = [(k, epochs[k].partner_label[row], epochs[k].lam[row]) for k, row in enumerate(mine)]
    assert sorted(names["labels"].fetchall()) == expected
    with pytest.raises(duckdb.Error, match="BYTE_STREAM_SPLIT"):  # once it can, the document may say so
        duckdb.sql(f"SELECT logits FROM '{url}/labels/*.parquet'").fetchall()


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray about its own settings
@pytest.mark.usefixtures("ray_of_tests")
def test_ray_data(written: tuple[str, np.ndarray, list[LabelRows]]) -> None:
    first = run_documented("ray", written[0])["first"]
    assert (first["class_name"], first["ipc_id"]) == (NAMES[0], 0)
    _assert_pixels(first["image"]["bytes"], written[1][0])
