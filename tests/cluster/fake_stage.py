"""A stage whose units do what the test tells them: work, raise, or kill their own process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edc_ray.artifacts.storage.store import open_store
from edc_ray.config.load import load_recipe, with_fields
from edc_ray.config.run import RunConfig, StageName
from edc_ray.errors import NumericalError
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import Outcome, Stage, UnitOutput, WorkUnit


def run_fake_unit(context: StageContext, unit: WorkUnit) -> UnitOutput:
    """Leaves a mark of every try in the folder `marks`, then does what `unit.work["do"]` says."""
    marks = Path(unit.work["marks"])
    tries = len(list(marks.glob(f"{unit.key}.*")))
    (marks / f"{unit.key}.{os.getpid()}.{context.group.rank}").touch()
    time.sleep(unit.work.get("seconds", 0.0))
    match unit.work["do"]:
        case "raise":
            raise NumericalError(f"unit {unit.key} is poisoned", found="NaN")
        case "raise on rank 1" if context.group.rank == 1:
            raise NumericalError(f"unit {unit.key} is poisoned", found="NaN")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill once" if tries == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        case "lose the device once" if tries == 0:
            raise RuntimeError("CUDA error: unspecified launch failure")
        case "meet":
            _meet(marks, unit.work["others"])
    ranks = torch.ones(1)
    if context.group.size > 1:
        torch.distributed.all_reduce(ranks)
    total = int(context.data.sum())  # type: ignore[attr-defined]
    return UnitOutput({f"{unit.key}.txt": (f"{total} {int(ranks)}".encode(), 1)}, {"pid": os.getpid()})


def _meet(marks: Path, others: int) -> None:
    """Return once so many other units are being done, or were done, in this process."""
    deadline = time.monotonic() + 60
    while len(list(marks.glob(f"*.{os.getpid()}.*"))) <= others:
        assert time.monotonic() < deadline, "they do not come"
        time.sleep(0.01)


def fake_stage(
    name: StageName, num_workers: Callable[[RunConfig], int] = lambda config: 1, *, trains: bool = False
) -> Stage:
    return Stage(
        name,
        1,
        (),
        lambda c: [],
        lambda c, u: None,
        run_fake_unit,
        lambda c, r: (r, {}),
        num_workers=num_workers,
        trains=trains,
    )


def fake_units(marks: Path, name: StageName, **doings: str | dict[str, Any]) -> list[WorkUnit]:
    marks.mkdir(parents=True, exist_ok=True)
    works = {key: {"do": do} if isinstance(do, str) else do for key, do in doings.items()}
    return [
        WorkUnit(name, key, f"unit {key}", work | {"marks": str(marks)}, fingerprint=f"print-{key}")
        for key, work in works.items()
    ]


def fake_context(folder: Path, data: object, **fields: Any) -> StageContext:
    config = fake_config(folder, **fields)
    return StageContext(config, open_store(str(folder)), data, torch.device("cpu"))  # type: ignore[arg-type]


_DEFAULTS = {"device": "cpu", "cluster.num_actors": 2}


def fake_config(folder: Path, **fields: Any) -> RunConfig:
    settings = {name.replace("__", "."): value for name, value in fields.items()}
    return with_fields(load_recipe("digits"), _DEFAULTS | {"storage.root": str(folder)} | settings)


def tries_of(marks: Path, key: str) -> int:
    """Processes in which a unit was begun."""
    return len(list(marks.glob(f"{key}.*")))


def ended(folder: Path, num_workers: int, **doings: Any) -> dict[str, Outcome]:
    """Outcomes, by key, of a stage whose units are each done by `num_workers` processes."""
    from edc_ray.cluster.driver import ray_executor

    context = fake_context(folder / "run", np.arange(4), cluster__retries=1)
    units = fake_units(folder / "marks", "squeeze", **doings)
    with ray_executor(fake_config(folder)) as execute:
        outcomes = list(execute(fake_stage("squeeze", lambda config: num_workers), context, units))
    assert len(outcomes) == len(units)
    return {outcome.unit.key: outcome for outcome in outcomes}


def keys_done(outcomes: dict[str, Outcome]) -> str:
    return "".join(sorted(key for key, outcome in outcomes.items() if outcome.record))
