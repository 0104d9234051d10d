"""Other libraries read a condensed set in a bucket, as docs/READING.md says."""

from __future__ import annotations

import numpy as np
import pytest

from edc_ray.artifacts.storage.store import Store
from tests.data.condensed.test_images_elsewhere import run_documented
from tests.data.written_sets import SLOTS, write_images, write_labels

pytestmark = pytest.mark.s3


@pytest.fixture
def url(store: Store) -> str:
    write_labels(store, write_images(store))
    return store.url


def test_pandas_and_duckdb_are_led_to_a_bucket_by_fsspec(url: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    frame = run_documented("fsspec", url)["images"]
    try:
        found = run_documented("duckdb", url)["images"].fetchall()
    finally:
        duckdb.unregister_filesystem("s3")
    assert sorted(zip(frame["label"], frame["ipc_id"], strict=True)) == SLOTS
    assert [ipc_id for _, ipc_id, _ in found] == [ipc_id for _, ipc_id in SLOTS]


def test_pyarrow_and_hugging_face_read_a_bucket_like_a_folder(
    url: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)  # as it is where nobody imported it offline
    datasets.disable_progress_bars()
    read = [run_documented(library, url)["images"] for library in ("pyarrow", "datasets")]
    for images in read:
        columns = [np.array(images[name]).tolist() for name in ("label", "ipc_id")]
        assert sorted(zip(*columns, strict=True)) == SLOTS
