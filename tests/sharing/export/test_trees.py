"""Plain files: torchvision and tarfile read them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from edc_ray.artifacts.storage.store import open_store
from edc_ray.data.condensed.images import CondensedImages
from edc_ray.sharing.card import dataset_card
from edc_ray.sharing.export.options import ExportOptions, Format
from edc_ray.sharing.export.run import export_run
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import new_root

TARS = ExportOptions("webdataset", shard_bytes=500)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"))


def test_an_image_folder_opens_in_the_order_of_labels(finished: StageContext, tmp_path: Path) -> None:
    export_run(finished.store.url, str(tmp_path / "out"), ExportOptions("imagefolder"))
    read, ours = ImageFolder(str(tmp_path / "out/train")), CondensedImages(finished.store.url)
    assert read.targets == ours.labels.tolist()
    assert read.class_to_idx == {f"{label:05d}": label for label in range(3)}
    for place, expected in enumerate(ours.images):
        np.testing.assert_array_equal(pixels(read[place][0]), expected[0])
    assert json.loads((tmp_path / "out/class_names.json").read_text()) == list(ours.class_names)


def test_tars_hold_samples_without_dates_and_owners(finished: StageContext) -> None:
    dest, again = open_store(new_root()), open_store(new_root())
    for store in (dest, again):
        export_run(finished.store.url, store.url, TARS)
    tars = [path for path in dest.list() if path.endswith(".tar")]
    assert tars == [f"data-{number:06d}.tar" for number in range(len(tars))]
    assert len(tars) > 1
    found = []
    for path in tars:
        assert dest.read(path) == again.read(path)
        with tarfile.open(fileobj=io.BytesIO(dest.read(path))) as archive:
            members = archive.getmembers()
            assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {
                (0, 0, 0, "")
            }
            content = {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]
        found += list(content.items())
    ours = CondensedImages(finished.store.url)
    assert len(found) == 3 * len(ours)
    for place, (label, ipc_id) in enumerate(zip(ours.labels.tolist(), ours.ipc_ids.tolist(), strict=True)):
        key = f"{label:05d}_{ipc_id:05d}"
        (png, data), (cls, number), (name, about) = found[3 * place : 3 * place + 3]
        assert (png, cls, name) == (f"{key}.png", f"{key}.cls", f"{key}.json")
        np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(data))), ours.images[place][0])
        assert int(number) == label
        assert json.loads(about) == {"label": label, "class_name": ours.class_names[label], "ipc_id": ipc_id}


# It leaves its files open.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_tars(finished: StageContext, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    export_run(finished.store.url, str(tmp_path / "out"), TARS)
    last = sum(1 for _ in (tmp_path / "out").glob("*.tar")) - 1
    urls = str(tmp_path / "out" / f"data-{{000000..{last:06d}}}.tar")
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil"))
    ours = CondensedImages(finished.store.url)
    assert [sample["cls"] for sample in samples] == ours.labels.tolist()
    for sample, expected in zip(samples, ours.images, strict=True):
        np.testing.assert_array_equal(pixels(sample["png"]), expected[0])


@pytest.mark.parametrize("style", ["imagefolder", "webdataset"])
def test_the_datasets_library_reads_the_images_and_nothing_else(
    finished: StageContext, tmp_path: Path, style: Format
) -> None:
    datasets = pytest.importorskip("datasets")
    out = str(tmp_path / "out")
    export_run(finished.store.url, out, ExportOptions(style), dataset_card)
    read = datasets.load_dataset(out, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(read) == len(CondensedImages(finished.store.url))
