"""The actor of one Ray Train run: the desk of its units, and the call that runs it.

It imports little: this process and Ray Train's controller need neither stages nor networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.util.placement_group import PlacementGroup

from edc_ray.cluster.desk import UnitDesk, portable
from edc_ray.cluster.resources import WorkerSize


@dataclass(frozen=True)
class RunPlan:
    """Name, size and limits of a Ray Train run.

    Args:
        name: of the run, for Ray's logs.
        num_workers: ranks.
        together: all ranks run each unit together under DDP.
        size: CPUs and GPUs of each rank.
        max_failures: deaths of workers after which Ray Train gives up.
        scratch: folder for Ray's own files.
    """

    name: str
    num_workers: int
    together: bool
    size: WorkerSize
    max_failures: int
    scratch: str


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
    def fit(self, plan: RunPlan, job: list[ray.ObjectRef[Any]]) -> None:
        """Run Ray Train until the desk has no units left. `job` holds one reference to a TrainJob."""
        from ray.train.torch import TorchConfig, TorchTrainer

        desk, gpus = ray.get_runtime_context().current_actor, plan.size.gpus
        # No checkpoint is reported, so only the controller on this node uses the scratch folder, and the
        # nodes need not share it.
        run_config = RunConfig(
            name=plan.name,
            storage_path=plan.scratch,
            failure_config=FailureConfig(max_failures=plan.max_failures),
            callbacks=[TellDesk(desk, plan.together)],
        )
        resources = {"CPU": plan.size.cpus} | ({"GPU": gpus} if gpus else {})
        TorchTrainer(
            run_worker,
            train_loop_config={"job": job, "desk": desk},
            # Without DDP the ranks do not communicate, and nccl refuses two ranks on one GPU.
            torch_config=TorchConfig(backend=None if plan.together else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=plan.num_workers, use_gpu=gpus > 0, resources_per_worker=resources
            ),
            run_config=run_config,
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
