"""init.source: images of another run instead of made ones, and whether its classes are those of this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edc_ray.artifacts.proof.records import Manifest
from edc_ray.errors import ArtifactError
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.stored_runs import check_classes, numbered_names
from tests.stages.more_classes import run_of
from tests.stages.tiny_runs import image_hashes, run_until, tiny_context

Copied = Callable[..., StageContext]
MADE = ("init", "recover", "relabel", "evaluate")


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


def test_initial_images_come_from_a_run_of_more_classes_by_their_names() -> None:
    whole = run_of(5)
    run_until(whole, "relabel")
    url, names = whole.store.url, ["class4", "class0"]
    part = run_of(names, init__source=url, recover__enabled=False, run__name="part")
    run_until(part, "recover")
    theirs = image_hashes(whole)
    assert image_hashes(part) == {
        (label, ipc_id): theirs[int(name[-1]), ipc_id]
        for label, name in enumerate(names)
        for ipc_id in (0, 1)
    }
    with pytest.raises(ArtifactError, match="of another dataset"):
        run_of(names, init__source=url, recover__enabled=False, relabel__source=url)
    with pytest.raises(ArtifactError, match=r"2 classes(.|\n)*3 classes"):
        run_of(3, init__source=part.store.url)
