from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from edc_ray.report import progress
from edc_ray.report.progress import ProgressBar, ProgressDisplay, Style

Clock = Callable[[float], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """`clock(seconds)` lets time pass."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def started(units: int = 4, reused: int = 0) -> dict[str, Any]:
    return {"event": "stage_started", "stage": "recover", "units": units, "reused": reused}


def ended(event: str = "unit_done", title: str = "classes 0-1", images: int = 0) -> dict[str, Any]:
    return {
        "event": event,
        "stage": "recover",
        "unit": "u",
        "title": title,
        "error": "NumericalError: NaN [layer]",
        "images": images,
    }


def finished(event: str = "stage_done") -> dict[str, Any]:
    return {"event": event, "stage": "recover", "seconds": 2.5, "units_done": 3, "units_reused": 1}


def shown(style: Style, events: list[dict[str, Any]], *, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    display = ProgressDisplay(style, console)
    with display.bars:
        for event in events:
            display(event)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_plain_progress_tells_a_stages_units_what_was_found_and_how_long_it_took() -> None:
    lines = shown("plain", [started(4, reused=1), *[ended()] * 3, finished()]).splitlines()
    assert lines == ["recover    4 units, 1 found", "recover    3 units done in 2.5 s"]


def test_plain_progress_says_nothing_of_found_units_where_there_are_none() -> None:
    assert shown("plain", [started(4)]) == "recover    4 units\n"


def test_a_stage_that_is_complete_is_told_with_its_units() -> None:
    event = {"event": "stage_reused", "stage": "relabel", "seconds": 0.1, "units_done": 0, "units_reused": 7}
    assert shown("plain", [event]) == "relabel    complete (7 units)\n"


@pytest.mark.parametrize("style", ["plain", "live"])
def test_a_failed_unit_is_told_with_its_title_and_error(style: Style) -> None:
    text = shown(
        style, [started(2), ended("unit_failed"), finished("stage_failed")], terminal=style == "live"
    )
    assert "recover: classes 0-1 failed: NumericalError: NaN [layer]" in text  # brackets are no markup


def test_the_end_of_a_stage_counts_its_failed_units_and_not_those_of_the_stage_before() -> None:
    events = [started(2), *[ended("unit_failed")] * 2, finished("stage_failed"), started(2), finished()]
    lines = shown("plain", events).splitlines()
    assert lines[-3] == "recover    3 units done in 2.5 s, 2 failed"
    assert lines[-1] == "recover    3 units done in 2.5 s"


def test_plain_progress_tells_units_rate_and_time_left_at_most_every_ten_seconds(clock: Clock) -> None:
    console = Console(file=io.StringIO(), width=100)
    display = ProgressDisplay("plain", console)
    display(started(10, reused=4))
    for seconds in (5, 4, 3, 1):
        clock(seconds)
        display(ended())
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    # Three new units in 12 s; three of ten are left. Units found complete do not count as speed.
    assert lines[1:] == ["recover    7/10 units, 15.0 units/min, 12 s left"]


@pytest.mark.parametrize(("seconds", "rate"), [(0.25, "4.0 units/s"), (20.0, "3.0 units/min")])
def test_the_rate_is_told_in_the_unit_that_reads_best(clock: Clock, seconds: float, rate: str) -> None:
    display = ProgressDisplay("none", Console(file=io.StringIO()))
    display._start(started(4))
    clock(seconds)
    display._advance(ended())
    assert display.bars.tasks[-1].fields["rate"] == rate


@pytest.mark.parametrize(("images", "rate"), [(5, "1.25 images/s"), (50_000, "12,500 images/s")])
def test_the_rate_is_that_of_images_where_units_have_some(clock: Clock, images: int, rate: str) -> None:
    display = ProgressDisplay("none", Console(file=io.StringIO()))
    display._start(started(4))
    clock(4)
    display._advance(ended(images=images))
    assert display.bars.tasks[-1].fields["rate"] == rate


def test_the_end_of_a_stage_tells_its_images_in_a_second() -> None:
    lines = shown("plain", [started(4, reused=1), *[ended(images=50)] * 3, finished()]).splitlines()
    assert lines[-1] == "recover    3 units done in 2.5 s, 60 images/s"


def test_the_end_of_a_stage_tells_the_memory_that_its_units_held() -> None:
    units = [ended() | {"device_bytes": gib << 30} for gib in (2, 11, 3)]
    lines = shown("plain", [started(4, reused=1), *units, finished()]).splitlines()
    assert lines[-1] == "recover    3 units done in 2.5 s, 11.0 GiB on the device"


def test_live_progress_draws_a_bar_with_the_units_done(clock: Clock) -> None:
    text = shown("live", [started(4, reused=1), ended(), ended()], terminal=True)
    assert "recover" in text
    assert "3/4" in text


def test_no_progress_shows_nothing_not_even_failures() -> None:
    assert shown("none", [started(), ended(), ended("unit_failed"), finished("stage_failed")]) == ""


@pytest.mark.parametrize(("terminal", "like"), [(False, "plain"), (True, "live")])
def test_auto_is_live_on_a_terminal_and_plain_elsewhere(terminal: bool, like: Style, clock: Clock) -> None:
    events = [started(2), ended(), finished()]
    assert shown("auto", events, terminal=terminal) == shown(like, events, terminal=terminal)
    assert ("1/2" in shown("auto", events, terminal=terminal)) == terminal


def test_an_event_of_another_kind_is_passed_over() -> None:
    assert shown("plain", [{"event": "note", "text": "hello"}]) == ""


def bar_of(events: list[dict[str, Any]], *, terminal: bool, enabled: bool = True) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    with ProgressBar(2, enabled=enabled, console=console) as bar:
        for event in events:
            bar(event)
            bar._bar.refresh()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_one_bar_shows_the_stage_its_place_and_its_units_and_is_gone_in_the_end() -> None:
    reused = {"event": "stage_reused", "stage": "init", "units_reused": 7}
    text = bar_of([reused, started(4, reused=1), ended(), ended("unit_failed")], terminal=True)
    assert "init (1 of 2)" in text
    assert "7/7" in text
    assert "recover (2 of 2)" in text
    assert "3/4" in text
    assert text.endswith("\x1b[2K")


def test_a_bar_shows_nothing_without_a_terminal_or_where_it_is_not_wanted() -> None:
    events = [started(4), ended()]
    assert bar_of(events, terminal=False) == bar_of(events, terminal=True, enabled=False) == ""
