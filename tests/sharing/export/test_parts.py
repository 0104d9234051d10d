from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edc_ray.data.condensed.images import open_stage
from edc_ray.errors import ConfigError
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.export.parts import parts_to_export, records_of_epochs
from edc_ray.sharing.export.run import export_run
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import new_root


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({}, ["images", "labels", "statistics"]),
        ({"format": "huggingface"}, ["images", "labels"]),
        ({"format": "webdataset"}, ["images"]),
        ({"format": "huggingface", "ipc": 2}, ["images", "labels"]),
        ({"format": "huggingface", "ipc": 1}, ["images"]),
        ({"ipc": 1}, ["images", "statistics"]),
        ({"format": "huggingface", "image_format": "jpeg"}, ["images"]),
        ({"parts": ["labels"]}, ["labels"]),
    ],
)
def test_all_that_there_is_unless_it_belongs_to_other_images(
    finished: StageContext, options: dict[str, Any], parts: list[str]
) -> None:
    assert parts_to_export(finished.store.url, ExportOptions(**options)) == parts


@pytest.mark.parametrize(
    "options", [{"ipc": 1}, {"format": "huggingface", "image_format": "jpeg"}]
)  # fmt: skip
def test_labels_of_other_images_are_refused_where_they_are_asked_for(
    finished: StageContext, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="labels belong to all images of a set") as caught:
        parts_to_export(finished.store.url, ExportOptions(**options, parts=["images", "labels"]))
    assert f"init.source={finished.store.url} recover.enabled=false" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"format": "huggingface", "image_format": "jpeg"}, "--image-format jpeg"),
        ({"format": "huggingface", "ipc": 1}, "--ipc 1"),
        ({"ipc": 1}, "--ipc 1"),
        ({"ipc": 1, "parts": ["images"]}, None),
        ({"format": "huggingface", "ipc": 2}, None),
        ({"format": "webdataset", "ipc": 1}, None),
    ],
)
def test_labels_that_are_left_out_are_told_of(
    finished: StageContext, options: dict[str, Any], option: str | None
) -> None:
    told = export_run(finished.store.url, new_root(), ExportOptions(**options))
    of_labels = [line for line in told if "leaves out the labels" in line]
    assert [f"{option} leaves out the labels: they belong" in line for line in of_labels] == [True] * (
        option is not None
    )


def test_of_labels_that_a_run_never_had_nothing_is_told(copied: Callable[..., StageContext]) -> None:
    unlabelled = copied("relabel", "evaluate")
    options = ExportOptions("huggingface", image_format="jpeg")
    assert len(export_run(unlabelled.store.url, new_root(), options)) == 1


def test_units_that_hold_the_first_epochs(finished: StageContext) -> None:
    url, (_, _, manifest) = finished.store.url, open_stage(finished.store.url, None, "relabel")
    for epochs, units in ((None, 2), (3, 2), (2, 1), (1, 1)):
        assert len(records_of_epochs(url, manifest, epochs)) == units
    with pytest.raises(ConfigError, match="holds labels of fewer epochs"):
        records_of_epochs(url, manifest, 4)
