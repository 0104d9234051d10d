"""Progress of a run, from its events: for the command line, and one bar for a script or a notebook."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Style = Literal["auto", "live", "plain", "none"]
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_DRAWINGS = 0.2


class ProgressDisplay:
    """Shows the finished units of each stage, their rate and the time left."""

    def __init__(self, style: Style, console: Console) -> None:
        if style == "auto":
            style = "live" if console.is_terminal else "plain"
        self._style = style
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>12}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=style != "live",
        )
        self._task: Any = None
        self._started = self._told = 0.0
        self._total = self._reused = self._ended = self._failed = 0

    @contextmanager
    def showing(self) -> Iterator[ProgressDisplay]:
        """Show the display within the context."""
        with self._bars:
            yield self

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event."""
        if self._style == "none":
            return
        kind = event["event"]
        if kind == "stage_reused":
            self._tell(f"{event['stage']:<10} complete ({event['units_reused']} units)")
        elif kind == "stage_started":
            self._start(event)
        elif kind in ("unit_done", "unit_failed"):
            self._advance(event)
        elif kind in ("stage_done", "stage_failed"):
            self._finish(event)

    def _start(self, event: dict[str, Any]) -> None:
        self._total, self._reused = event["units"], event["reused"]
        self._ended, self._failed = self._reused, 0
        self._started = self._told = time.monotonic()
        if self._style == "live":
            self._task = self._bars.add_task(
                event["stage"], total=self._total, completed=self._reused, rate=""
            )
        else:
            found = f", {self._reused} found" if self._reused else ""
            self._tell(f"{event['stage']:<10} {self._total} units{found}")

    def _advance(self, event: dict[str, Any]) -> None:
        self._ended += 1
        if event["event"] == "unit_failed":
            self._failed += 1
            self._tell(f"{event['stage']}: {event['title']} failed: {event['error']}", style="red")
        if self._style == "live":
            self._bars.update(self._task, completed=self._ended, rate=self._rate())
        elif time.monotonic() - self._told > _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            left = (self._total - self._ended) / max(self._speed(), 1e-9)
            self._tell(
                f"{event['stage']:<10} {self._ended}/{self._total} units, {self._rate()}, {left:.0f} s left"
            )

    def _finish(self, event: dict[str, Any]) -> None:
        if self._style == "plain":
            failed = f", {self._failed} failed" if self._failed else ""
            self._tell(
                f"{event['stage']:<10} {event['units_done']} units done in {event['seconds']:.1f} s{failed}"
            )

    def _speed(self) -> float:
        return (self._ended - self._reused) / max(time.monotonic() - self._started, 1e-9)

    def _rate(self) -> str:
        speed = self._speed()
        return f"{speed:.1f} units/s" if speed >= 1 else f"{60 * speed:.1f} units/min"

    def _tell(self, text: str, style: str | None = None) -> None:
        if self._style == "live":
            self._bars.console.print(text, style=style, highlight=False, markup=False)
        else:
            self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


class ProgressBar:
    """One bar for all stages of a call, on a terminal or in a notebook. Elsewhere it shows nothing.

    In a notebook IPython's display draws it. That needs no widget and no thread, so no further package, and
    it works while an event loop runs.

    Args:
        num_stages: of the call.
        enabled: False shows nothing anywhere.
        console: where to show it; by default stderr.
    """

    def __init__(self, num_stages: int, *, enabled: bool = True, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._on_terminal = enabled and console.is_terminal and not console.is_jupyter
        self._in_notebook = enabled and console.is_jupyter
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        if self._shown is not None and (
            at_once or time.monotonic() - self._drawn > _SECONDS_BETWEEN_DRAWINGS
        ):
            self._shown.update(self._bar)
            self._drawn = time.monotonic()
