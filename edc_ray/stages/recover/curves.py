"""The curves that a unit of recover records."""

from __future__ import annotations

from typing import Any

import numpy as np

from edc_ray.core.recover.state import IterationReport

_POINTS_OF_A_CURVE = 50


def matching_facts(reports: list[IterationReport], num_observers: int) -> dict[str, Any]:
    """Facts for the record: short curves, and the matching loss at the beginning and at the end.

    Observers differ in scale, so both ends are means over one turn of all observers.
    """
    turn = min(num_observers, len(reports))
    matching = [report.matching_loss for report in reports]
    # A point is a mean over whole turns: every n-th iteration alone could be the same observer's.
    turns = -(-len(reports) // turn)
    step = turn * max(1, -(-turns // _POINTS_OF_A_CURVE))
    series = {
        name: [getattr(report, name) for report in reports]
        for name in ("loss", "cross_entropy", "matching_loss", "learning_rate")
    }
    if any(report.flatness_loss for report in reports):
        series["flatness_loss"] = [report.flatness_loss for report in reports]
    series |= {name: [report.pixel_terms[name] for report in reports] for name in reports[0].pixel_terms}
    curves: dict[str, list[float]] = {
        name: [
            round(float(np.mean(values[first : first + step])), 6) for first in range(0, len(values), step)
        ]
        for name, values in series.items()
    }
    for name in dict.fromkeys(report.observer for report in reports):
        own = [report.matching_loss for report in reports if report.observer == name]
        curves[f"matching_loss/{name}"] = [
            round(value, 6) for value in own[:: max(1, len(own) // _POINTS_OF_A_CURVE)]
        ]
    ends = {"first": float(np.mean(matching[:turn])), "last": float(np.mean(matching[-turn:]))}
    return {"matching_loss": ends, "curves": curves}
