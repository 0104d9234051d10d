"""Runs digits in a fresh interpreter and prints what it waited for. `bench_start.py` calls it.

    python benchmarks/first_unit.py ADDRESS FOLDER [--whole] [section.field=value ...]

The last line is a JSON object with seconds since the interpreter was asked for (EDC_RAY_BENCH_START, of
time.time): command_line, engine (torch and the stages are imported), ray_imported and ray_started, data (the
images are open and checked), begun (the first unit has), ended (the first unit has) and, with --whole, whole.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

STARTED = float(os.environ.get("EDC_RAY_BENCH_START", time.time()))
marks: dict[str, float] = {}


class FirstUnitEndedError(Exception):
    """Ends a run whose rest is not wanted."""


def mark(name: str, at: float | None = None) -> None:
    marks.setdefault(name, (time.time() if at is None else at) - STARTED)


def marking(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, with a mark at its end."""

    def called(*args: Any, **options: Any) -> Any:
        found = call(*args, **options)
        mark(name)
        return found

    return called


def main() -> None:
    address, folder, *words = sys.argv[1:]
    whole = "--whole" in words
    from edc_ray.config.load import load_recipe
    from edc_ray.config.run import STAGE_NAMES

    fields = [word for word in words if word != "--whole"]
    config = load_recipe("digits", [f"cluster.address={address}", f"storage.root={folder}", *fields])
    mark("command_line")
    import edc_ray.launch as launching

    mark("engine")
    if address != "none":
        import ray

        import edc_ray.cluster.driver  # noqa: F401

        mark("ray_imported")
        ray.init = marking("ray_started", ray.init)
    launching.open_inputs = marking("data", launching.open_inputs)

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "unit_done":
            mark("begun", time.time() - event["seconds"])
            mark("ended")
            if not whole:
                raise FirstUnitEndedError

    try:
        launching.launch(config, STAGE_NAMES, on_event)
        mark("whole")
    except FirstUnitEndedError:
        pass
    print(json.dumps(marks))


if __name__ == "__main__":
    main()
