"""Launching a config: runs its units here or on Ray, emits events, writes the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch

from edc_ray.artifacts.storage.layout import (
    REPORT_FOLDER,
    REPORT_PAGE,
    join_path,
    manifest_path,
    stage_folder,
)
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.load import deviations_from_method
from edc_ray.config.methods import edc
from edc_ray.config.methods.values import defaults_of
from edc_ray.config.run import RunConfig, StageName
from edc_ray.errors import ConfigError
from edc_ray.report.run_report import result_rows, write_report
from edc_ray.runs.device_line import device_line
from edc_ray.runs.interrupts import interrupts_wait_for, keeping_terminations
from edc_ray.runs.lease import lease
from edc_ray.runs.made_again import lines_of_made_again, lines_of_more_classes
from edc_ray.runs.open_run import (
    Inputs,
    device_of_whole_run,
    open_inputs,
    open_run,
    open_store_of,
)
from edc_ray.runs.placement import Machine, chosen_place, in_ray_job, why_ray
from edc_ray.runs.same_run import earlier_config
from edc_ray.stages.pipeline import OnEvent, run_pipeline
from edc_ray.stages.side_by_side.execution import execute_here
from edc_ray.stages.units.context import StageContext, choose_device
from edc_ray.stages.units.event_log import EventLog, read_events
from edc_ray.stages.units.plan import Execute, Outcome, Stage, WorkUnit

if TYPE_CHECKING:
    from edc_ray.cluster.driver import RayExecutor


def launch(config: RunConfig, stages: Sequence[StageName], on_event: OnEvent = lambda event: None) -> Store:
    """Bring the stages of a run to completion and write its report.

    Args:
        config: of the run.
        stages: to complete; complete ones are left alone.
        on_event: gets the events of the log, and three more: {"event": "note", "text": ...} tells a person
            something before work starts; {"event": "run_opened", "run": URL} follows when config and folder
            are checked; {"event": "report_written", "urls": [...]} ends the call.

    Returns:
        The store of the run.

    Raises:
        EdcRayError: bad input, or failed units.
    """
    with ExitStack() as held, _Workers(config) as workers:
        if _needs_ray_at_once(config):
            if config.cluster.address == "local" or (config.cluster.address is None and not in_ray_job()):
                choose_device(config.device)  # workers see what this process sees
            workers.start()
        inputs = open_inputs(config)
        is_whole = device_of_whole_run(inputs.store) is not None

        def take_lease() -> None:
            tell = partial(_tell, on_event)
            held.enter_context(lease(inputs.store, inputs.config.run.when_busy, tell))

        if not is_whole:
            take_lease()
        for line in _changes_of_method(inputs.config):
            _tell(on_event, line)
        execute, device = _Execution(inputs, stages, workers, on_event).begun()
        earlier = earlier_config(inputs.store)
        context = open_run(inputs, device)
        for line in (*lines_of_more_classes(context, earlier), *lines_of_made_again(context, earlier)):
            _tell(on_event, line)
        if not isinstance(execute, _Execution):  # a complete run computes nothing
            _tell(on_event, device_line(context.config, device))
        if is_whole:  # unless it grows
            execute = _first(cache(take_lease), execute)
        on_event({"event": "run_opened", "run": context.store.url})
        log = EventLog(context.store)

        def logged(event: dict[str, Any]) -> None:
            log(event)
            on_event(event)

        try:
            run_pipeline(context, stages, execute=execute, on_event=logged)
        finally:
            log.write()
    _bring_report_up_to_date(context, log, on_event)
    return context.store


def _first(take_lease: Callable[[], None], execute: Execute) -> Execute:
    def leased(stage: Stage, context: StageContext, units: list[WorkUnit]) -> Iterable[Outcome]:
        take_lease()
        return execute(stage, context, units)

    return leased


def _tell(on_event: OnEvent, line: str) -> None:
    on_event({"event": "note", "text": line})


def _changes_of_method(config: RunConfig) -> list[str]:
    """A line with the fields that differ from the method's values; [] if none do."""
    changed = deviations_from_method(config)
    if config.dataset.name not in edc.VALUES.datasets:
        # The methods set no values for this dataset: a recipe's value in place of a default is no change.
        defaults = json.loads(json.dumps(defaults_of(config, set(changed))))
        changed = {field: pair for field, pair in changed.items() if pair[1] != defaults.get(field)}
    listed = ", ".join(f"{field}={value} ({method})" for field, (value, method) in changed.items())
    return [f"method {config.method}, changed: {listed}"] if changed else []


def _bring_report_up_to_date(context: StageContext, log: EventLog, on_event: OnEvent) -> None:
    store = context.store
    made = any(event["event"] == "stage_done" for event in log.events)
    if made or not store.exists(join_path(REPORT_FOLDER, REPORT_PAGE)):
        urls = write_report(store, read_events(store), tensorboard=context.config.tracking.tensorboard)
        on_event({"event": "report_written", "urls": urls})


class _Workers(ExitStack):
    """Ray's workers, which start in a thread while the driver opens the data. They end with the block.

    That thread also ends them: Ray's processes live as long as the thread that started them.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self._config = config
        self._started: Future[RayExecutor] | None = None

    def start(self) -> Future[RayExecutor]:
        """Start them unless they are started."""
        if self._started is None:
            thread, ray = self.enter_context(ThreadPoolExecutor(1, "ray")), ExitStack()
            self.callback(lambda: thread.submit(ray.close).result())
            self._started = thread.submit(self._start, ray)
            self.enter_context(interrupts_wait_for(self._started))
        return self._started

    def _start(self, ray: ExitStack) -> RayExecutor:
        from edc_ray.cluster.driver import ray_executor  # importing Ray takes a second

        return ray.enter_context(ray_executor(self._config))


def _needs_ray_at_once(config: RunConfig) -> bool:
    """Whether Ray is needed whatever the data, and the run is not complete."""
    asked = why_ray(config, Machine.this()) if config.cluster.address is None else config.cluster.address
    return asked not in (None, "none") and device_of_whole_run(open_store_of(config)) is None


class _Execution:
    """Where units run and on which device: this process, or Ray's workers."""

    def __init__(
        self, inputs: Inputs, stages: Sequence[StageName], workers: _Workers, on_event: OnEvent
    ) -> None:
        self._inputs, self._workers, self._on_event = inputs, workers, on_event
        self._stages = [name for name in stages if not inputs.store.exists(manifest_path(stage_folder(name)))]
        self._chosen: tuple[Execute, torch.device] | None = None

    def begun(self) -> tuple[Execute, torch.device]:
        """As chosen. For a complete run `self`, which chooses when a unit is missing after all."""
        config = self._inputs.config
        made_on = device_of_whole_run(self._inputs.store)
        is_whole = made_on is not None and config.device in ("auto", made_on)
        if made_on is None or not is_whole or config.cluster.address == "none":
            return self._choose()
        return self, torch.device(made_on)

    def _choose(self) -> tuple[Execute, torch.device]:
        """This process or Ray, with a line that says which unless the config does."""
        if self._chosen is None:
            config = self._inputs.config
            place = chosen_place(config, self._inputs.data, self._stages, Machine.this())
            if place.line:
                _tell(self._on_event, place.line)
            if place.on_ray:
                with keeping_terminations():
                    execute = self._workers.start().result()
                self._chosen = execute, torch.device(execute.device_type)
            else:
                device = choose_device(config.device, gpus=config.cluster.gpus_per_actor)
                self._chosen = execute_here, device
        return self._chosen

    def __call__(self, stage: Stage, context: StageContext, units: list[WorkUnit]) -> Iterable[Outcome]:
        execute, device = self._choose()
        if device.type != context.device.type:
            raise ConfigError(
                f"{stage.name}: units are missing, and the others were made on another device",
                found=f"workers on {device.type}",
                expected=context.device.type,
                next=f"set device={context.device.type}, or give another run.name",
            )
        return execute(stage, context, units)


def launch_sweep(config: RunConfig) -> list[dict[str, Any]]:
    """Run the trials of a sweep that are not done yet.

    Returns:
        All trials; see `cluster.tune.run_sweep`.

    Raises:
        EdcRayError: bad input. A trial that fails is no error of the sweep.
    """
    # Ray Tune takes seconds to import.
    from edc_ray.cluster.tune import run_sweep

    return run_sweep(config, run_trial)


def run_trial(config: RunConfig) -> dict[str, Any]:
    """Run the pipeline for one trial in this process; the first result of the row `sweep.row`."""
    inputs = open_inputs(config)
    context = open_run(inputs, choose_device(config.device))
    run_pipeline(context, on_event=EventLog(context.store))
    row = next(row for row in result_rows(context.store) if row.row == config.sweep.row)
    return {name: getattr(row, name) for name in ("row", "student", "n", "top1_mean", "top1_std")}
