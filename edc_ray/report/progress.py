"""Progress of a run, from its events: for the command line, and as one bar for a script or a notebook."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any, Literal

from rich import progress
from rich.console import Console

from edc_ray.errors import plural

Style = Literal["auto", "live", "plain", "none"]
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_DRAWINGS = 0.2
# What is counted of a stage's units.
_NOTHING: dict[str, Any] = {"rate": "", "reused": 0, "failed": 0, "images": 0, "held": 0}


class ProgressDisplay:
    """Shows the finished units of each stage, their rate and the time left, within the context `bars`."""

    def __init__(self, style: Style, console: Console) -> None:
        if style == "auto":
            style = "live" if console.is_terminal else "plain"
        self._style, self._console = style, console
        self.bars = progress.Progress(
            progress.TextColumn("{task.description:<10}"),
            progress.BarColumn(bar_width=30),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]:>16}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=console,
            get_time=time.monotonic,
            disable=style != "live",
        )
        self._told = 0.0

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event."""
        if self._style == "none":
            return
        kind = event["event"]
        if kind == "stage_reused":
            self._tell(f"{event['stage']:<10} complete ({plural(event['units_reused'], 'unit')})")
        elif kind == "stage_started":
            self._start(event)
        elif kind in ("unit_done", "unit_failed"):
            self._advance(event)
        elif kind in ("stage_done", "stage_failed") and self._style == "plain":
            fields = self.bars.tasks[-1].fields if self.bars.tasks else _NOTHING
            failed = f", {fields['failed']} failed" if fields["failed"] else ""
            speed = f", {_images_per_second(fields['images'], event['seconds'])}" if fields["images"] else ""
            held = f", {fields['held'] / 2**30:.1f} GiB on the device" if fields["held"] else ""
            done = f"{plural(event['units_done'], 'unit')} done in {event['seconds']:.1f} s"
            self._tell(f"{event['stage']:<10} {done}{speed}{held}{failed}")

    def _start(self, event: dict[str, Any]) -> None:
        units, reused = event["units"], event["reused"]
        self._told = time.monotonic()
        self.bars.add_task(event["stage"], total=units, completed=reused, **{**_NOTHING, "reused": reused})
        if self._style == "plain":
            found = f", {reused} found" if reused else ""
            self._tell(f"{event['stage']:<10} {plural(units, 'unit')}{found}")

    def _advance(self, event: dict[str, Any]) -> None:
        task = self.bars.tasks[-1]
        if event["event"] == "unit_failed":
            task.fields["failed"] += 1
            self._tell(f"{event['stage']}: {event['title']} failed: {event['error']}", style="red")
        self.bars.advance(task.id)
        task.fields["images"] += event.get("images", 0)
        task.fields["held"] = max(task.fields["held"], event.get("device_bytes", 0))
        seconds = max(task.elapsed or 0, 1e-9)
        per_second = (task.completed - task.fields["reused"]) / seconds
        rate = f"{per_second:.1f} units/s" if per_second >= 1 else f"{60 * per_second:.1f} units/min"
        if task.fields["images"]:
            rate = _images_per_second(task.fields["images"], seconds)
        self.bars.update(task.id, rate=rate)
        if self._style == "plain" and time.monotonic() - self._told > _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            left = (task.remaining or 0) / max(per_second, 1e-9)
            count = f"{task.completed:.0f}/{task.total:.0f} units"
            self._tell(f"{event['stage']:<10} {count}, {rate}, {left:.0f} s left")

    def _tell(self, text: str, style: str | None = None) -> None:
        wrap = self._style != "live"
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=wrap)


class ToldRun(ExitStack):
    """What a run tells the command line: notes and progress go to the console, the rest is kept."""

    def __init__(self, style: Style, console: Console) -> None:
        super().__init__()
        self._console, self._progress = console, ProgressDisplay(style, console)
        self.events: list[dict[str, Any]] = []
        self.url: str | None = None
        self.report: list[str] = []

    def __call__(self, event: dict[str, Any]) -> None:
        match event:
            case {"event": "note", "text": text}:
                self._console.print(text, highlight=False, markup=False, soft_wrap=True)
            case {"event": "run_opened", "run": url}:
                self.url = url
                self.enter_context(self._progress.bars)
            case {"event": "report_written", "urls": urls}:
                self.report = urls
            case _:
                self.events.append(event)
                self._progress(event)

    def kept(self) -> str:
        """What an interrupted run keeps, and how it goes on."""
        begun = [place for place, event in enumerate(self.events) if event["event"] == "stage_started"]
        if not begun:
            return "nothing was begun" if self.url is None else "what was complete is kept"
        stage, later = self.events[begun[-1]], self.events[begun[-1] :]
        done = stage["reused"] + sum(event["event"] == "unit_done" for event in later)
        units = plural(stage["units"], "unit")
        return f"{stage['stage']} has {done} of {units}; they are kept, and the same command goes on"


def _images_per_second(images: int, seconds: float) -> str:
    rate = images / max(seconds, 1e-9)
    return f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.2f} images/s"


class ProgressBar:
    """One bar for all stages of a call, on a terminal or in a notebook. Elsewhere it shows nothing.

    In a notebook IPython's display draws it. That needs neither a widget nor a thread, and works while an
    event loop runs. By default the console is stderr.
    """

    def __init__(self, num_stages: int, *, enabled: bool = True, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._on_terminal = enabled and console.is_terminal and not console.is_jupyter
        self._in_notebook = enabled and console.is_jupyter
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=30),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._num_stages, self._begun = num_stages, 0
        self._task = self._bar.add_task("opening", total=None)
        self._shown: Any = None
        self._drawn = 0.0

    def __enter__(self) -> ProgressBar:
        if self._on_terminal:
            self._bar.start()
        if self._in_notebook:
            from IPython.display import display  # every notebook has IPython

            self._shown = display(self._bar, display_id=True)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._bar.update(self._task, description="done")
        self._bar.stop_task(self._task)
        self._draw(at_once=True)
        if self._on_terminal:
            self._bar.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event."""
        kind = event["event"]
        if kind in ("stage_started", "stage_reused"):
            self._begun += 1
            self._bar.reset(
                self._task,
                total=event.get("units", event.get("units_reused")),
                completed=event.get("reused", event.get("units_reused", 0)),
                description=f"{event['stage']} ({self._begun} of {self._num_stages})",
            )
        elif kind in ("unit_done", "unit_failed"):
            self._bar.advance(self._task)
        self._draw(at_once=kind.startswith("stage_"))

    def _draw(self, *, at_once: bool) -> None:
        is_due = at_once or time.monotonic() - self._drawn > _SECONDS_BETWEEN_DRAWINGS
        if self._shown is not None and is_due:
            self._shown.update(self._bar)
            self._drawn = time.monotonic()
