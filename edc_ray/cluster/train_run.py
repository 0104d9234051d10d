"""The actor of one Ray Train run: the desk of its units, and the call that runs it.

The desk gives units to the group of ranks, collects their results and counts deaths per unit. It runs beside
the workers: when one worker dies, Ray Train restarts the whole group, and the results must survive that. This
file imports little: its process and Ray Train's controller need neither stages nor networks.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig, UserCallback
from ray.util.placement_group import PlacementGroup

from edc_ray.artifacts.proof.manifest import Record
from edc_ray.cluster.work_queue import UnitRaisedError, portable, worker_died
from edc_ray.core.device_errors import is_device_error
from edc_ray.stages.units.plan import Outcome, WorkUnit


class UnitDesk:
    """Units of one Ray Train run, in their order, and their outcomes. A unit has `retries` if workers die."""

    def __init__(self, units: Sequence[WorkUnit], retries: int) -> None:
        self._units = {unit.key: unit for unit in units}
        self._waiting = deque(self._units)
        self._running: str | None = None
        self._deaths: Counter[str] = Counter()
        self._retries = retries
        self._ended: set[str] = set()
        self._outcomes: list[Outcome] = []

    def next_unit(self) -> str | None:
        """Key of the group's next unit; None if nothing is left. A restarted group gets its unit again."""
        if self._running is None and self._waiting:
            self._running = self._waiting.popleft()
        return self._running

    def finish(self, key: str, record: Record | None, error: Exception | None = None) -> None:
        """A unit ended. Only the first call for it counts: a restarted group may report it again."""
        if key not in self._ended:
            self._ended.add(key)
            self._outcomes.append(Outcome(self._units[key], record=record, error=error))
        if self._running == key:
            self._running = None

    def group_failed(self, errors: Mapping[int, Exception]) -> None:
        """Ranks raised or died.

        If a rank dies, the connections of the others break and they raise, too. So a unit fails without a
        retry only if every rank raised and one error is about neither a connection nor a lost device. Else it
        has `retries`.
        """
        key = self._running
        if key is None:
            return
        raised = [error.error for error in errors.values() if isinstance(error, UnitRaisedError)]
        own = [each for each in raised if not _is_broken_connection(each) and not is_device_error(each)]
        if own and len(raised) == len(errors):
            self.finish(key, None, own[0])
            return
        self._deaths[key] += 1
        if self._deaths[key] > self._retries:
            reason = next(iter(errors.values()))
            self.finish(key, None, worker_died(self._units[key], self._deaths[key], reason))

    def take(self) -> list[Outcome]:
        """Outcomes since the last call."""
        taken, self._outcomes = self._outcomes, []
        return taken


class TrainRun(UnitDesk):
    """The desk as an actor, with `fit` in its own thread. Killing the actor ends the run's processes."""

    _workplace: PlacementGroup | None = None

    def set_workplace(self, workplace: PlacementGroup | None) -> None:
        """A worker tells the placement group of its run."""
        self._workplace = workplace

    def workplace(self) -> PlacementGroup | None:
        """The placement group of the workers; None before one has started."""
        return self._workplace

    @ray.method(concurrency_group="run")
    def fit(self, job: list[ray.ObjectRef[Any]], size: ScalingConfig, run: RunConfig) -> None:
        """Run Ray Train until the desk has no units left. `job` holds one reference to a TrainJob."""
        from ray.train.torch import TorchTrainer

        desk = ray.get_runtime_context().current_actor
        run.callbacks = [TellDesk(desk)]
        TorchTrainer(
            run_worker,
            train_loop_config={"job": job, "desk": desk},
            scaling_config=size,
            run_config=run,
        ).fit()


def run_worker(told: dict[str, Any]) -> None:
    """Called by Ray Train on every rank."""
    from edc_ray.cluster.train_worker import work

    work(ray.get(told["job"])[0], told["desk"])


class TellDesk(UserCallback):
    """Tells the desk which ranks failed. Ray Train's controller calls it before it restarts the group."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called by Ray Train with the error of each failed rank."""
        errors = {rank: portable(error) for rank, error in worker_exceptions.items()}
        self._desk.group_failed.remote(errors)


def _is_broken_connection(error: Exception) -> bool:
    text = f"{type(error).__name__} {error}".lower()
    return any(word in text for word in ("gloo", "nccl", "disterror", "distbackenderror", "distnetworkerror"))
