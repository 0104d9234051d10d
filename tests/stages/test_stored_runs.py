"""init.source and relabel.source: images and labels of another run instead of made ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from edc_ray.artifacts.records import Manifest
from edc_ray.data.condensed import CondensedViews
from edc_ray.errors import ArtifactError
from edc_ray.stages.context import StageContext
from edc_ray.stages.export_official import ExportOptions, export_run
from edc_ray.stages.import_official import import_images
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.stored_runs import check_classes, numbered_names
from tests.stages.tiny_runs import image_hashes, new_root, tiny_context

Copied = Callable[..., StageContext]
MADE = ("init", "recover", "relabel", "evaluate")


@pytest.fixture(scope="module")
def imported(finished: StageContext) -> str:
    """The finished run after a journey through the official layouts."""
    dest, again = new_root(), new_root()
    export_run(finished.store.url, dest, ExportOptions(parts=["images", "labels"]))
    import_images(finished.config, f"{dest}/images", again, labels=f"{dest}/labels")
    return again


def test_a_student_learns_from_imported_images_and_labels_as_from_those_of_the_run(
    copied: Copied, finished: StageContext, imported: str
) -> None:
    context = copied(
        *MADE, init__source=imported, recover__enabled=False, relabel__source=imported,
        evaluate__rows=["condensed"], evaluate__seeds=1,
    )  # fmt: skip
    run_pipeline(context)
    assert image_hashes(context) == image_hashes(context, "init") == image_hashes(finished)
    ours, theirs = CondensedViews(context.store.url), CondensedViews(finished.store.url)
    for epoch in range(3):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        for mine, other in zip(ours.batch(range(6)), theirs.batch(range(6)), strict=True):
            assert torch.equal(mine, other)
    name = "condensed_convnet_d1_seed-000"
    results = [
        next(record for record in one.manifest("evaluate").records if record.unit == name).meta["result"]
        for one in (context, finished)
    ]
    assert results[0] == results[1]
    assert run_pipeline(context)[3].units_reused == 3


def test_recovery_starts_from_the_images_of_another_run(copied: Copied, finished: StageContext) -> None:
    context = copied(*MADE, init__source=finished.store.url)
    run_pipeline(context, ["init", "recover"])
    assert image_hashes(context, "init") == image_hashes(finished)
    assert image_hashes(context).keys() == image_hashes(finished).keys()
    assert image_hashes(context) != image_hashes(finished)


def test_images_of_another_run_keep_their_pixels_under_a_method_that_stores_jpeg(
    copied: Copied, finished: StageContext
) -> None:
    jpeg = {"recover__image_format": "jpeg", "recover__jpeg_quality": 30, "init__image_format": "jpeg"}
    context = copied(*MADE, "statistics", init__source=finished.store.url, recover__enabled=False, **jpeg)
    run_pipeline(context, ["statistics", "init", "recover"])
    assert image_hashes(context) == image_hashes(finished)


def test_a_run_without_stored_labels_says_how_to_get_them(copied: Copied) -> None:
    online = copied("relabel", "evaluate", evaluate__labels="online")
    run_pipeline(online, ["relabel"])
    with pytest.raises(ArtifactError, match=r"labelled online(.|\n)*set evaluate\.labels=stored") as caught:
        tiny_context(relabel__source=online.store.url)
    assert "relabel.epochs" not in str(caught.value)


def test_labels_of_other_images_are_refused(copied: Copied, finished: StageContext) -> None:
    context = copied(*MADE, init__source=finished.store.url, relabel__source=finished.store.url)
    run_pipeline(context, ["init", "recover"])
    with pytest.raises(ArtifactError, match="are of another image set") as caught:
        run_pipeline(context, ["relabel"])
    assert "6 images differ; the first is class 0, ipc id 0" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"init__source": "{}", "ipc": 3}, "too few images"),
        ({"init__source": "{}", "dataset__image_size": 16}, "images of another size"),
        ({"relabel__source": "{}", "relabel__epochs": 4}, "labels of fewer epochs than are asked for"),
        ({"init__source": "memory://nowhere"}, "stage recover is not complete"),
        ({"relabel__source": "memory://nowhere"}, "stage relabel is not complete"),
    ],
)
def test_what_cannot_be_of_this_run_is_refused_before_work_starts(
    finished: StageContext, fields: dict[str, Any], match: str
) -> None:
    given: dict[str, Any] = {
        name: finished.store.url if value == "{}" else value for name, value in fields.items()
    }
    with pytest.raises(ArtifactError, match=match):
        tiny_context(**given)


def manifest(*names: str) -> Manifest:
    return Manifest("recover", "", "", {"class_names": list(names)}, ())


def test_classes_are_compared_by_name_where_names_are_known() -> None:
    check_classes(manifest("cat", "dog"), ["cat", "dog"], "x")
    check_classes(manifest(*numbered_names(2)), ["cat", "dog"], "x")
    with pytest.raises(ArtifactError, match="x is of another dataset") as caught:
        check_classes(manifest("dog", "cat"), ["cat", "dog"], "x")
    assert caught.value.found == "class 0 is 'dog'"
    with pytest.raises(ArtifactError, match="x is of another dataset"):
        check_classes(manifest("cat", "dog", "owl"), ["cat", "dog"], "x")
