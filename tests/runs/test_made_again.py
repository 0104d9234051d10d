"""What makes finished stages again is told before any work, with both values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from edc_ray.artifacts.storage.layout import RUN_CONFIG
from edc_ray.config.history import ABSENT_VALUES
from edc_ray.errors import ConfigError
from edc_ray.runs.made_again import lines_of_made_again
from edc_ray.runs.same_run import earlier_config
from edc_ray.stages.pipeline import STAGES, run_pipeline
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import WorkUnit
from tests.stages.tiny_runs import copy_root, tiny_context

Copied = Callable[..., StageContext]


def lines(finished: StageContext, **fields: object) -> list[str]:
    """Of a copy of the finished run that is opened with other fields."""
    return lines_of_made_again(tiny_context(copy_root(finished.store), **fields), finished.config)


def test_of_the_same_run_nothing_is_made_again(finished: StageContext) -> None:
    assert lines(finished) == []
    assert lines_of_made_again(finished, None) == []


def test_more_images_are_named_with_both_numbers(finished: StageContext) -> None:
    assert lines(finished, ipc=3) == ["relabel, evaluate: made again, ipc=3 (was 2)"]


def test_another_version_of_the_code_is_named_with_the_earlier_one(
    finished: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    relabel = STAGES["relabel"]
    newer = replace(relabel, version=relabel.version + 1)
    monkeypatch.setitem(STAGES, "relabel", newer)
    told = f"made again, version of the code of relabel={newer.version} (was {relabel.version})"
    assert lines(finished) == [f"relabel: {told}"]


def test_units_that_read_something_else_are_named(
    finished: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeeze = STAGES["squeeze"]
    first = squeeze.plan(finished)[0].key

    def inputs(context: StageContext, unit: WorkUnit) -> object:
        return "other" if unit.key == first else squeeze.inputs(context, unit)

    other = replace(squeeze, inputs=inputs)
    monkeypatch.setitem(STAGES, "squeeze", other)
    found = lines(finished)
    assert len(found) == 1
    assert found[0].startswith("squeeze: made again, what it reads has changed")
    assert found[0].endswith(f": {squeeze.plan(finished)[0].title}")


def test_a_field_that_came_later_makes_again_what_it_changes_and_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if `recover.jitter` had come after the run, with another default than what runs did before."""
    monkeypatch.setitem(ABSENT_VALUES, "recover.jitter", 0)
    context = tiny_context()
    run_pipeline(context)
    text = context.store.read(RUN_CONFIG).decode()
    assert text.count("  jitter: 0\n") == 1
    context.store.publish(RUN_CONFIG, text.replace("  jitter: 0\n", "").encode(), replace=True)
    earlier = earlier_config(context.store)
    later = tiny_context(context.store.url.rpartition("/")[0], recover__jitter=1)
    assert lines_of_made_again(later, earlier) == [
        "recover, relabel, evaluate: made again, recover.jitter=1 (was 0)"
    ]
    done = {report.stage: report.units_done for report in run_pipeline(later)}
    assert done["recover"] > 0
    assert done["squeeze"] == done["statistics"] == done["init"] == 0


def test_a_field_that_the_folder_states_is_refused_as_ever(finished: StageContext) -> None:
    with pytest.raises(ConfigError, match=r"compile='auto'(.|\n)*compile='default'"):
        tiny_context(copy_root(finished.store), compile="default")
