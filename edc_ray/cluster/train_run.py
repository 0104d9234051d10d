"""The actor of one Ray Train run: the desk of its units, and the call that runs it.

The desk gives units to ranks, collects their results and counts deaths per unit. It runs beside the workers:
when one worker dies, Ray Train restarts the whole group, and the results of the others must survive that.
This file imports little: its process and Ray Train's controller need neither stages nor networks.
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
from edc_ray.stages.units.plan import Outcome, WorkUnit


class UnitDesk:
    """Units of one Ray Train run, in their order, and their outcomes. A unit has `retries` if workers die."""

    def __init__(self, units: Sequence[WorkUnit], retries: int) -> None:
        self._units = {unit.key: unit for unit in units}
        self._waiting = deque(self._units)
        self._running: dict[int, str] = {}
        self._deaths: Counter[str] = Counter()
        self._retries = retries
        self._ended: set[str] = set()
        self._outcomes: list[Outcome] = []

    def next_unit(self, rank: int) -> str | None:
        """Key of the next unit of a rank; None if nothing is left.

        A rank that still has a unit was restarted with its group, and gets that unit again.
        """
        if rank not in self._running and self._waiting:
            self._running[rank] = self._waiting.popleft()
        return self._running.get(rank)

    def finish(self, key: str, record: Record | None, error: Exception | None = None) -> None:
        """A unit ended. Only the first call for it counts: a restarted worker may report it again."""
        if key not in self._ended:
            self._ended.add(key)
            self._outcomes.append(Outcome(self._units[key], record=record, error=error))
        self._running = {rank: running for rank, running in self._running.items() if running != key}

    def worker_failed(self, rank: int, error: Exception) -> None:
        """A worker died. Its unit is retried, at most `retries` times."""
        key = self._running.get(rank)
        if key is None:
            return
        self._deaths[key] += 1
        if self._deaths[key] > self._retries:
            self.finish(key, None, worker_died(self._units[key], self._deaths[key], error))

    def group_failed(self, errors: Mapping[int, Exception]) -> None:
        """Ranks of a group that shares each unit raised or died.

        If a rank dies, the connections of the others break and they raise, too. So a unit fails without a
        retry only if every rank raised and one error is not about a connection.
        """
        raised = [error.error for error in errors.values() if isinstance(error, UnitRaisedError)]
        own = [error for error in raised if not _is_broken_connection(error)]
        if own and len(raised) == len(errors) and 0 in self._running:
            self.finish(self._running[0], None, own[0])
        else:
            self.worker_failed(0, next(iter(errors.values())))

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
    def fit(self, job: list[ray.ObjectRef[Any]], together: bool, size: ScalingConfig, run: RunConfig) -> None:
        """Run Ray Train until the desk has no units left.

        `job` holds one reference to a TrainJob. `together`: all ranks run each unit together under DDP.
        """
        from ray.train.torch import TorchConfig, TorchTrainer

        desk = ray.get_runtime_context().current_actor
        run.callbacks = [TellDesk(desk, together)]
        TorchTrainer(
            run_worker,
            train_loop_config={"job": job, "desk": desk},
            # Without DDP the ranks do not communicate, and nccl refuses two ranks on one GPU.
            torch_config=TorchConfig(backend=None if together else "gloo"),
            scaling_config=size,
            run_config=run,
        ).fit()


def run_worker(told: dict[str, Any]) -> None:
    """Called by Ray Train on every rank."""
    from edc_ray.cluster.train_worker import work

    work(ray.get(told["job"])[0], told["desk"])


class TellDesk(UserCallback):
    """Tells the desk which ranks failed. Ray Train's controller calls it before it restarts the group."""

    def __init__(self, desk: Any, together: bool) -> None:
        self._desk = desk
        self._together = together

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called by Ray Train with the error of each failed rank."""
        errors = {rank: portable(error) for rank, error in worker_exceptions.items()}
        if self._together:
            self._desk.group_failed.remote(errors)
            return
        for rank, error in errors.items():
            self._desk.worker_failed.remote(rank, error)


def _is_broken_connection(error: Exception) -> bool:
    text = f"{type(error).__name__} {error}".lower()
    return any(word in text for word in ("gloo", "nccl", "disterror", "distbackenderror", "distnetworkerror"))
