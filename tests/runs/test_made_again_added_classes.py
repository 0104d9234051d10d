"""What a run says before it takes more classes, and that it then does what it said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edc_ray.artifacts.storage.layout import manifest_path, stage_folder
from edc_ray.config.run import StageName
from edc_ray.runs.made_again import lines_of_more_classes, stages_of_more_classes
from edc_ray.stages.units.context import StageContext
from tests.stages.more_classes import NAMES, REAL, root_of, run_of
from tests.stages.tiny_runs import run_until
from tests.stages.units.test_kept_units import METHODS, Work


def why(context: StageContext, earlier: StageContext) -> dict[str, str]:
    return {one.stage: one.why for one in stages_of_more_classes(context, earlier.config)}


@pytest.mark.parametrize(("fields", "work"), METHODS.values(), ids=METHODS)
def test_what_is_told_before_work_is_what_is_done(fields: dict[str, Any], work: Work) -> None:
    few = run_of(3, **fields)
    last: StageName = "recover" if work["recover"][1] else "init"
    run_until(few, last)
    grown = run_of(5, root_of(few), **fields)
    before = grown.store.list()
    told = {one.stage: (one.to_make, one.kept) for one in stages_of_more_classes(grown, few.config)}
    assert grown.store.list() == before
    done = {report.stage: (report.units_done, report.units_reused) for report in run_until(grown, last)}
    assert told == {stage: work for stage, work in done.items() if sum(work)}


def test_the_lines_name_the_classes_the_observers_and_the_numbers() -> None:
    few = run_of(3, **REAL)
    run_until(few, "evaluate")
    assert lines_of_more_classes(run_of(5, root_of(few), **REAL), few.config) == [
        "classes: 5 now, 3 before; added class3, class4",
        "  squeeze     kept 0, to make 1: observer convnet_d1 is trained on all classes: 5 now, 3 before",
        "  init        kept 1, to make 2: 2 with added classes",
        "  recover     kept 1, to make 2: 2 with added classes",
        "  relabel     kept 0, to make 1: a soft label has a number for each class",
        "  evaluate    kept 0, to make 1: a student has an output for each class",
    ]


def test_nothing_is_told_of_the_same_classes_or_a_new_run() -> None:
    few = run_of(3, **REAL)
    run_until(few, "init")
    assert lines_of_more_classes(run_of(3, root_of(few), **REAL), few.config) == []
    assert lines_of_more_classes(few, None) == []


def test_images_that_observers_chose_or_made_say_so() -> None:
    few = run_of(3, squeeze__observers=["convnet_d1", "wrn_16_2"], init__observers=["wrn_16_2"])
    run_until(few, "recover")
    few.store.delete(manifest_path(stage_folder("recover")))  # broken off before its end
    fields = {"squeeze__observers": ["convnet_d1", "wrn_16_2"], "init__observers": ["wrn_16_2"]}
    told = why(run_of(4, root_of(few), **fields), few)
    assert told["init"] == "observer wrn_16_2 of fewer classes scored the crops"
    assert told["recover"] == "images were made for observers convnet_d1, wrn_16_2 of fewer classes"
    assert told["statistics"] == "they are of all images, in layers of other observers"


def test_noise_that_follows_the_measured_mean_says_how_it_would_stay() -> None:
    few = run_of(3, init__kind="noise")
    run_until(few, "init")
    told = why(run_of(5, root_of(few), init__kind="noise"), few)
    assert told["init"].startswith("2 with added classes and 1 because dataset.mean and dataset.std")
    assert NAMES[:3] == few.data.train.class_names


@pytest.mark.parametrize(
    ("section", "fields", "stage", "words"),
    [
        ("squeeze", {"epochs": 0}, "squeeze", "outputs of the weight files instead of 3; nothing is trained"),
        ("recover", {"layers": ("bn",), "variance": "official", "category_aware": "none"}, "statistics",
         "BatchNorms, no image is seen"),
        ("statistics", {"source": "URL"}, "statistics", "statistics.source has those of all classes"),
    ],
)  # fmt: skip
def test_what_costs_nothing_is_said_to(
    finished: StageContext, section: str, fields: dict[str, Any], stage: str, words: str
) -> None:
    changed = getattr(finished.config, section).model_copy(update=fields)
    config = finished.config.model_copy(update={section: changed})
    told = why(replace(finished, config=config), finished)
    assert told[stage].endswith(words)
