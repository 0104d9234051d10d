"""The actor of one Ray Train run: the desk of its units, and the call that runs it.

It imports little: this process and Ray Train's controller need neither stages nor networks.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig, UserCallback
from ray.util.placement_group import PlacementGroup

from edc_ray.cluster.desk import UnitDesk, portable


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

        Args:
            job: one reference to a TrainJob.
            together: all ranks run each unit together under DDP.
            size: ranks, and what each holds.
            run: name, scratch folder and limit of failures.
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
