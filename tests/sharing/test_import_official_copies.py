"""What was exported comes back as a folder that reads like the run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edc_ray.artifacts.proof.manifest import read_manifest, verify_run
from edc_ray.artifacts.proof.records import to_json
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.config.load import with_fields
from edc_ray.data.condensed.images import CondensedImages, CondensedViews
from edc_ray.errors import ArtifactError, ConfigError, DataError
from edc_ray.sharing.export.options import ExportOptions, Format
from edc_ray.sharing.export.run import export_run
from edc_ray.sharing.import_official import import_images
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import new_root


def shared(finished: StageContext, format: Format = "huggingface") -> Store:
    dest = new_root()
    small: Any = {"shard_bytes": 700} if format in ("huggingface", "webdataset") else {}
    export_run(finished.store.url, dest, ExportOptions(format, **small))
    return open_store(dest)


@pytest.mark.parametrize("format", ["huggingface", "imagefolder", "webdataset", "official", "rded"])
def test_the_images_come_back_with_their_names(finished: StageContext, format: Format) -> None:
    source, back = shared(finished, format), new_root()
    url = f"{source.url}/images" if format in ("official", "rded") else source.url
    named = format in ("huggingface", "imagefolder", "webdataset")  # the others have no place for names
    config = with_fields(finished.config, {"dataset.class_names": None}) if named else finished.config
    import_images(config, url, back)
    ours, theirs = CondensedImages(finished.store.url), CondensedImages(back)
    np.testing.assert_array_equal(ours.images, theirs.images)
    assert (ours.digest, ours.class_names) == (theirs.digest, theirs.class_names)
    assert verify_run(open_store(back)) == []


def test_labels_come_back_from_a_copy_for_hugging_face(finished: StageContext) -> None:
    back = new_root()
    told = import_images(finished.config, shared(finished).url, back)
    assert told == f"{back}: 6 images of 3 classes, labels of 3 epochs"
    ours, theirs = CondensedViews(finished.store.url, epoch=2), CondensedViews(back, epoch=2)
    np.testing.assert_array_equal(ours.rows.logits, theirs.rows.logits)
    assert verify_run(open_store(back)) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"dataset.class_names": ["class0", "class2", "class1"]},
        {"dataset.class_names": None, "dataset.num_classes": 4},
        {"dataset.image_size": 16},
        {"dataset.channels": 3, "dataset.mean": None, "dataset.std": None},
    ],
)
@pytest.mark.parametrize("format", ["huggingface", "imagefolder", "webdataset"])
def test_another_dataset_is_refused(finished: StageContext, format: Format, fields: dict[str, Any]) -> None:
    back = new_root()
    with pytest.raises((ArtifactError, DataError), match="of another dataset"):
        import_images(with_fields(finished.config, fields), shared(finished, format).url, back)
    assert not open_store(back).list()


def test_labels_of_its_own_leave_no_place_for_others(finished: StageContext) -> None:
    with pytest.raises(ConfigError, match="has its own labels"):
        import_images(finished.config, shared(finished).url, new_root(), labels="memory://other")


def test_labels_of_other_images_and_damaged_files_are_refused(finished: StageContext) -> None:
    store, back = shared(finished), new_root()
    manifest = read_manifest(store, "labels")
    assert manifest is not None
    other = replace(manifest, meta=manifest.meta | {"images": "other"})
    store.publish("labels/manifest.json", to_json(other), replace=True)
    with pytest.raises(DataError, match=r"labels in .* belong to another image set"):
        import_images(finished.config, store.url, back)
    assert not open_store(back).list()
    store = shared(finished)
    store.publish("data/train-00001-of-00006.parquet", b"half", replace=True)
    with pytest.raises(ArtifactError, match=r"train-00001-of-\d+\.parquet is damaged"):
        import_images(finished.config, store.url, back)
    with pytest.raises(ArtifactError, match="not complete"):
        CondensedImages(back)


def test_a_copy_for_hugging_face_is_exported_like_a_run(finished: StageContext) -> None:
    dest, direct = new_root(), new_root()
    options = ExportOptions(parts=["images", "labels"])
    export_run(shared(finished).url, dest, ExportOptions())
    export_run(finished.store.url, direct, options)
    there, ours = open_store(dest), open_store(direct)
    assert there.list() == ours.list()
    assert all(there.read(path) == ours.read(path) for path in ours.list("images"))
