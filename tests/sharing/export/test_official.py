"""export, and back: what a run wrote in the official layouts is read again as it was."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edc_ray.artifacts.proof.manifest import verify_run
from edc_ray.artifacts.storage.store import open_store
from edc_ray.data.condensed.images import CondensedImages, CondensedViews
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.export.run import export_run
from edc_ray.sharing.import_official import import_images, import_statistics
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import StageContext
from tests.models.test_official_paths import OFFICIAL
from tests.stages.statistics.test_stage import _table
from tests.stages.tiny_runs import OBSERVERS, new_root

Copied = Callable[..., StageContext]


def labels_alone(url: str, **options: int) -> str:
    """Exports labels; their folder."""
    dest = new_root()
    export_run(url, dest, ExportOptions(parts=["labels"], **options))  # type: ignore[arg-type]
    return f"{dest}/labels"


def test_images_and_labels_exported_and_imported_are_the_same_bit_for_bit(finished: StageContext) -> None:
    dest, again = new_root(), new_root()
    told = export_run(finished.store.url, dest, ExportOptions())
    assert [line.split(": ", 1)[1] for line in told[:2]] == [
        "6 images", "3 epochs in batches of 4: the official student needs this batch size"
    ]  # fmt: skip
    import_images(finished.config, f"{dest}/images", again, labels=f"{dest}/labels")
    ours, theirs = CondensedViews(finished.store.url), CondensedViews(again)
    np.testing.assert_array_equal(ours.images, theirs.images)
    assert (ours.class_names, ours.mean, ours.num_epochs) == (theirs.class_names, theirs.mean, 3)
    for epoch in range(3):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        for mine, other in zip(ours.batch(range(6)), theirs.batch(range(6)), strict=True):
            assert torch.equal(mine, other)
        np.testing.assert_array_equal(ours.rows.lam, theirs.rows.lam)
    assert verify_run(open_store(again)) == []


def test_the_tree_is_what_the_official_student_reads(finished: StageContext) -> None:
    dest = new_root()
    export_run(finished.store.url, dest, ExportOptions(parts=["images", "labels"]))
    store = open_store(dest)
    assert store.list("images") == [
        f"images/new{label:03d}/class{label:03d}_id{ipc_id:03d}.png"
        for label in range(3)
        for ipc_id in range(2)
    ]
    assert store.list("labels") == [f"labels/epoch_{e}/batch_{b}.tar" for e in range(3) for b in range(2)]
    first, last = (
        torch.load(io.BytesIO(store.read(f"labels/epoch_0/batch_{b}.tar")), weights_only=False)
        for b in range(2)
    )
    assert [len(first), len(first[6]), len(last[6])] == [7, 4, 2]  # images of 8 pixels: the small layout
    assert sorted([*first[6].tolist(), *last[6].tolist()]) == list(range(6))
    assert [type(side) for side in first[4]] == [np.int64] * 4


def test_rded_folders_hold_the_same_images_under_rdeds_names(finished: StageContext) -> None:
    dest, again = new_root(), new_root()
    export_run(finished.store.url, dest, ExportOptions("rded"))
    assert open_store(dest).list()[-1] == "images/00002/class00002_id00001.png"
    import_images(finished.config, f"{dest}/images", again)
    np.testing.assert_array_equal(CondensedImages(again).images, CondensedImages(finished.store.url).images)
    with pytest.raises(ConfigError, match="format rded holds only images"):
        export_run(finished.store.url, new_root(), ExportOptions("rded", parts=["labels"]))


def test_images_may_be_encoded_again(finished: StageContext, tmp_path: Path) -> None:
    options = ExportOptions(parts=["images"], image_format="jpeg")
    export_run(finished.store.url, str(tmp_path), options)
    with Image.open(tmp_path / "images/new001/class001_id000.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (8, 8))


def test_statistics_exported_and_imported_are_the_official_rows(finished: StageContext) -> None:
    dest, again = new_root(), new_root()
    export_run(finished.store.url, dest, ExportOptions(parts=["statistics"]))
    names = {path.split("/")[-2].split("=")[0] for path in open_store(dest).list("statistics")}
    assert names == {"ConvNet_ConvNetD1", "WideResNet_WRN_16_2"}
    layers = [name for name, _ in OFFICIAL["wrn_16_2"]]
    written = [
        path.split("/")[-2].split("=")[1] for path in open_store(dest).list("statistics") if "Wide" in path
    ]
    assert set(written) == set(layers)
    import_statistics(finished.config, f"{dest}/statistics", again)
    imported = replace(finished, store=open_store(again), _manifests={})
    for name in OBSERVERS:
        ours, theirs = _table(finished, name), _table(imported, name)
        buffers = {key for key in ours if key[1] == "bn" and key[3] == "global"}
        assert set(theirs) == {key for key in ours if key[2] == "official"} - buffers
        for key, values in theirs.items():
            for quantity, array in values.items():
                np.testing.assert_array_equal(array, ours[key][quantity], err_msg=f"{key} {quantity}")
    third = new_root()
    export_run(again, third, ExportOptions())  # what was imported says what its networks are called
    assert open_store(third).list() == open_store(dest).list()


def test_labels_need_batches_of_the_size_of_the_mixing_groups(finished: StageContext) -> None:
    assert labels_alone(finished.store.url, batch_size=4)
    with pytest.raises(ArtifactError, match="mixed in other groups") as caught:
        labels_alone(finished.store.url, batch_size=3)
    assert "mixing groups of 2, 4 views" in str(caught.value)
    assert "relabel.mix_group=3" in str(caught.value)


def test_a_folder_that_holds_something_is_not_written_to(finished: StageContext) -> None:
    dest = new_root()
    open_store(dest).publish("labels/epoch_9/notes.txt", b"")
    with pytest.raises(ConfigError, match="is not empty"):
        export_run(finished.store.url, dest, ExportOptions())
    assert open_store(dest).list() == ["labels/epoch_9/notes.txt"]


def test_a_part_that_the_run_lacks_is_named(copied: Copied) -> None:
    context = copied("relabel", "evaluate")
    with pytest.raises(ArtifactError, match="stage relabel is not complete"):
        labels_alone(context.store.url)
    dest = new_root()
    export_run(context.store.url, dest, ExportOptions())
    assert not open_store(dest).list("labels")
    with pytest.raises(ArtifactError, match="stage recover is not complete"):
        export_run(new_root(), new_root(), ExportOptions())


def test_a_part_without_results_is_left_out_or_refused_with_the_reason(copied: Copied) -> None:
    context = copied(
        "statistics", "recover", "relabel", "evaluate", recover__enabled=False, relabel__labels="online"
    )
    run_pipeline(context, ["statistics", "recover", "relabel"])
    dest = new_root()
    assert len(export_run(context.store.url, dest, ExportOptions())) == 1
    assert {path.split("/")[0] for path in open_store(dest).list()} == {"images"}
    for part, match in (
        ("labels", "students of this run were labelled online"),
        ("statistics", "complete but empty"),
    ):
        empty = new_root()
        with pytest.raises(ArtifactError, match=match):
            export_run(context.store.url, empty, ExportOptions(parts=["images", part]))  # type: ignore[list-item]
        assert not open_store(empty).list()


def test_running_estimates_alone_are_no_statistics_to_export(copied: Copied) -> None:
    context = copied(
        "statistics", "recover", "relabel", "evaluate", recover__observers=["wrn_16_2"],
        recover__layers=["bn"], recover__variance="official", recover__category_aware="none",
    )  # fmt: skip
    run_pipeline(context, ["statistics", "recover"])
    dest = new_root()
    assert len(export_run(context.store.url, dest, ExportOptions())) == 1
    with pytest.raises(ArtifactError, match="holds no statistics of the official programs' kind"):
        export_run(context.store.url, new_root(), ExportOptions(parts=["statistics"]))


@pytest.mark.parametrize("field", ["patch_shuffle", "rand_augment"])
def test_labels_of_views_that_the_files_cannot_hold_are_refused(copied: Copied, field: str) -> None:
    context = copied("relabel", "evaluate", **{f"relabel__{field}": {"patch_shuffle": 2}.get(field, True)})
    run_pipeline(context, ["relabel"])
    with pytest.raises(ArtifactError, match=f"cannot hold(.|\\n)*changed by relabel.{field}"):
        labels_alone(context.store.url)
