"""Launching a config: runs its units here or on Ray, emits events, writes the report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from edc_ray.artifacts.storage.layout import REPORT_FOLDER, REPORT_PAGE, join_path
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.load import deviations_from_method
from edc_ray.config.methods import edc
from edc_ray.config.methods.values import defaults_of
from edc_ray.config.run import RunConfig, StageName
from edc_ray.errors import ConfigError
from edc_ray.report.run_report import result_rows, write_report
from edc_ray.runs.made_again import lines_of_made_again, lines_of_more_classes
from edc_ray.runs.open_run import (
    Inputs,
    device_of_whole_run,
    open_inputs,
    open_run,
)
from edc_ray.runs.same_run import earlier_config
from edc_ray.stages.pipeline import OnEvent, run_pipeline
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
    inputs = open_inputs(config)
    for line in _changes_of_method(inputs.config):
        on_event({"event": "note", "text": line})
    with _executor(inputs) as (execute, device):
        earlier = earlier_config(inputs.store)
        context = open_run(inputs, device)
        for line in (*lines_of_more_classes(context, earlier), *lines_of_made_again(context, earlier)):
            on_event({"event": "note", "text": line})
        on_event({"event": "run_opened", "run": context.store.url})
        log = EventLog(context.store)

        def logged(event: dict[str, Any]) -> None:
            log(event)
            on_event(event)

        try:
            run_pipeline(context, stages, execute=execute, on_event=logged)
        finally:
            log.write_if_possible()
    _bring_report_up_to_date(context, log, on_event)
    return context.store


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


@contextmanager
def _executor(inputs: Inputs) -> Iterator[tuple[Execute | None, torch.device]]:
    """Where units run and on which device: this process, or Ray's workers."""
    config = inputs.config
    if config.cluster.address == "none":
        yield None, choose_device(config.device)
        return
    with ExitStack() as ray:
        made_on = device_of_whole_run(inputs.store)
        if made_on is not None and config.device in ("auto", made_on):
            yield _RayWhenNeeded(config, made_on, ray), torch.device(made_on)
            return
        if config.cluster.address == "local" and config.device != "auto":
            choose_device(config.device)  # workers see what this process sees, and take seconds to start
        execute = _started_ray(config, ray)
        yield execute, torch.device(execute.device_type)


class _RayWhenNeeded:
    """Starts Ray for the first missing unit, so a complete run is checked without Ray."""

    def __init__(self, config: RunConfig, device_type: str, ray: ExitStack) -> None:
        self._config, self._device_type, self._ray = config, device_type, ray
        self._execute: RayExecutor | None = None

    def __call__(self, stage: Stage, context: StageContext, units: list[WorkUnit]) -> Iterable[Outcome]:
        if self._execute is None:
            self._execute = _started_ray(self._config, self._ray)
        if self._execute.device_type != self._device_type:
            raise ConfigError(
                f"{stage.name}: units are missing, and the others were made on another device",
                found=f"workers on {self._execute.device_type}",
                expected=self._device_type,
                next=f"set device={self._device_type}, or give another run.name",
            )
        return self._execute(stage, context, units)


def _started_ray(config: RunConfig, ray: ExitStack) -> RayExecutor:
    # Importing Ray takes a second.
    from edc_ray.cluster.driver import ray_executor

    return ray.enter_context(ray_executor(config))


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
