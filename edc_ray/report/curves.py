"""Curves of a run: one picture, and TensorBoard files.

The events of finished units in events.jsonl hold the curves:
{"event": "unit_done", "stage": "recover", "unit": key, "curves": {name: [float, ...]}}.
A name such as "matching_loss/resnet18" is the line "resnet18" of the panel "matching_loss".
"""

from __future__ import annotations

import io
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Curves = dict[str, list[float]]

# A unit of these stages is one training. Other stages are shown by the mean over their units.
_TRAININGS = ("squeeze", "evaluate")
_PANEL_INCHES = (4.5, 3.0)
_PANELS_IN_A_ROW = 3


def unit_curves(events: Iterable[Mapping[str, Any]], stage: str) -> dict[str, Curves]:
    """Curves of a stage's finished units by unit key; the latest if a unit was rerun."""
    found = {}
    for event in events:
        if event.get("event") == "unit_done" and event.get("stage") == stage and event.get("curves"):
            found[event["unit"]] = {name: list(curve) for name, curve in event["curves"].items() if curve}
    return found


def mean_curves(curves_of_units: Iterable[Mapping[str, list[float]]]) -> Curves:
    """Mean over units, point by point. Each point is the mean over the units that have it.

    Units may differ in length by a point, because observers take turns.
    """
    gathered: dict[str, list[list[float]]] = defaultdict(list)
    for curves in curves_of_units:
        for name, curve in curves.items():
            gathered[name].append(curve)
    means = {}
    for name, several in gathered.items():
        points = itertools.zip_longest(*several)
        means[name] = [float(np.mean([value for value in point if value is not None])) for point in points]
    return means


def plot_curves(events: Iterable[Mapping[str, Any]], stage: str = "recover") -> bytes | None:
    """Mean curves of a stage as a PNG with a panel for each quantity; None if there are none.

    The horizontal axis is the share of the unit's work that is done: an observer that takes part in every
    third iteration has a third of the points. `events` are the objects of events.jsonl.
    """
    units = unit_curves(events, stage)
    panels: dict[str, Curves] = defaultdict(dict)
    for name, curve in mean_curves(units.values()).items():
        panel, _, line = name.partition("/")
        panels[panel][line] = curve
    if not panels:
        return None
    # Imported only here, because it takes seconds. The same below.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(panels), _PANELS_IN_A_ROW)
    rows = -(-len(panels) // columns)
    figure = Figure((columns * _PANEL_INCHES[0], rows * _PANEL_INCHES[1]), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{stage}: mean over {len(units)} unit{'s' if len(units) != 1 else ''}")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, (panel, lines) in zip(axes[: len(panels)], panels.items(), strict=True):
        for line, curve in lines.items():
            axis.plot(np.linspace(0, 100, len(curve)), curve, label=line or "all", linewidth=1.2)
        is_positive = min(min(curve) for curve in lines.values()) > 0
        if ("loss" in panel or panel == "cross_entropy") and is_positive:
            axis.set_yscale("log")
        axis.set_title(panel.replace("_", " "), fontsize=10)
        axis.set_xlabel("done (%)", fontsize=8)
        axis.tick_params(which="both", labelsize=8)
        axis.grid(alpha=0.3)
        if len(lines) > 1:
            axis.legend(fontsize=7)
    for unused in axes[len(panels) :]:
        unused.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def write_tensorboard(events: Iterable[Mapping[str, Any]], folder: str | Path) -> None:
    """Write all curves as TensorBoard event files into a local folder. Files of an earlier call are deleted.

    Each training (squeeze, evaluate) becomes a TensorBoard run named stage/unit. Each other stage becomes one
    run, named stage, with the mean of its units. `events` are the objects of events.jsonl.
    """
    events = list(events)
    stages = dict.fromkeys(event["stage"] for event in events if event.get("curves"))
    for stage in stages:
        units = unit_curves(events, stage)
        if stage in _TRAININGS:
            for unit, curves in units.items():
                _write_run(curves, Path(folder) / stage / unit)
        else:
            _write_run(mean_curves(units.values()), Path(folder) / stage)


def _write_run(curves: Mapping[str, list[float]], folder: Path) -> None:
    from tensorboardX import SummaryWriter

    # TensorBoard would draw two event files of a folder as one line that runs back and forth.
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        for name, curve in curves.items():
            for step, value in enumerate(curve):
                writer.add_scalar(name, value, step)
