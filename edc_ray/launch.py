"""Launching a config: where its units run, what is shown while they do, and what is printed at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table

from edc_ray.artifacts.proof.manifest import read_manifest
from edc_ray.artifacts.storage.layout import REPORT_FOLDER, REPORT_PAGE, join_path, stage_folder
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.load import deviations_from_method
from edc_ray.config.methods import edc
from edc_ray.config.methods.values import defaults_of
from edc_ray.config.run import RunConfig, StageName
from edc_ray.errors import ConfigError, EdcRayError, UnitsFailedError
from edc_ray.report.progress import ProgressDisplay
from edc_ray.report.run_report import result_rows, write_report
from edc_ray.report.table import to_table
from edc_ray.runs.added_classes import lines_of_more_classes
from edc_ray.runs.made_again import lines_of_made_again
from edc_ray.runs.open_run import (
    Inputs,
    device_of_whole_run,
    open_inputs,
    open_run,
    run_url,
)
from edc_ray.runs.same_run import earlier_config
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import StageContext, choose_device
from edc_ray.stages.units.event_log import EventLog, read_events
from edc_ray.stages.units.plan import Execute, Outcome, Stage, WorkUnit

if TYPE_CHECKING:
    from edc_ray.cluster.driver import RayExecutor


@dataclass(frozen=True)
class Output:
    """How a command speaks: results on stdout, everything else on stderr."""

    as_json: bool = False
    quiet: bool = False


def launch(config: RunConfig, stages: Sequence[StageName], output: Output) -> None:
    """Bring the stages of a run to completion, write its report, print its table.

    Raises:
        EdcRayError: bad input, or failed units. With `as_json` the object is printed before that.
    """
    inputs = open_inputs(config)
    stderr = Console(stderr=True)
    _say_where_the_method_is_left(inputs.config, stderr)
    progress = ProgressDisplay("none" if output.quiet else config.tracking.progress, stderr)
    with _executor(inputs) as (execute, device):
        earlier = earlier_config(inputs.store)
        context = open_run(inputs, device)
        for line in (*lines_of_more_classes(context, earlier), *lines_of_made_again(context, earlier)):
            stderr.print(line, highlight=False, markup=False, soft_wrap=True)
        log = EventLog(context.store)

        def on_event(event: dict[str, Any]) -> None:
            log(event)
            progress(event)

        try:
            with progress.showing():
                run_pipeline(context, stages, execute=execute, on_event=on_event)
        except EdcRayError:
            if output.as_json:
                print(json.dumps(summary(context.store, log.events, whole=False)), flush=True)
            raise
        finally:
            log.write_if_possible()
    _show(context, log, output, stderr)


def _say_where_the_method_is_left(config: RunConfig, stderr: Console) -> None:
    """A method's name in a file or a title says little once its fields were changed."""
    changed = deviations_from_method(config)
    if config.dataset.name not in edc.VALUES.datasets:
        # No method has values for this dataset: where it leaves a default, the recipe's value is no change.
        defaults = json.loads(json.dumps(defaults_of(config, set(changed))))
        changed = {field: pair for field, pair in changed.items() if pair[1] != defaults.get(field)}
    if changed:
        listed = ", ".join(f"{field}={value} ({method})" for field, (value, method) in changed.items())
        stderr.print(
            f"method {config.method}, changed: {listed}", highlight=False, markup=False, soft_wrap=True
        )


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
        execute = _started_ray(config, ray)
        yield execute, torch.device(execute.device_type)


class _RayWhenNeeded:
    """Starts Ray for the first unit that is missing: a run that is whole needs none, only to be looked at."""

    def __init__(self, config: RunConfig, device_type: str, ray: ExitStack) -> None:
        self._config, self._device_type, self._ray = config, device_type, ray
        self._execute: RayExecutor | None = None

    def __call__(self, stage: Stage, context: StageContext, units: list[WorkUnit]) -> Iterable[Outcome]:
        if self._execute is None:
            self._execute = _started_ray(self._config, self._ray)
        if self._execute.device_type != self._device_type:
            raise ConfigError(
                f"{stage.name}: units are missing, and the run was made on another device",
                found=f"workers on {self._execute.device_type}",
                expected=self._device_type,
                next=f"set device={self._device_type}, or give another run.name",
            )
        return self._execute(stage, context, units)


def _started_ray(config: RunConfig, ray: ExitStack) -> RayExecutor:
    # Ray takes a second to import and is not needed without it.
    from edc_ray.cluster.driver import ray_executor

    return ray.enter_context(ray_executor(config))


def launch_sweep(config: RunConfig, output: Output) -> None:
    """Run the trials of a sweep that are not done yet and print all of them, the best first.

    Raises:
        EdcRayError: bad input, or failed trials; those that succeeded are kept and printed.
    """
    # Ray Tune takes seconds to import.
    from edc_ray.cluster.tune import run_sweep

    trials = run_sweep(config, run_trial)
    if output.as_json:
        print(json.dumps({"run": run_url(config), "trials": trials}), flush=True)
    else:
        Console().print(_trials_table(config, trials))
    failed = [trial for trial in trials if "error" in trial]
    if failed:
        raise UnitsFailedError(
            f"sweep: {len(failed)} of {len(trials)} trials failed; the others are done and kept",
            found="\n" + "\n".join(f"    {trial['fields']}: {trial['error']}" for trial in failed[:10]),
            next="mend the cause and run the same command again: only the failed trials are run",
        )


def run_trial(config: RunConfig) -> dict[str, Any]:
    """One point of a sweep: the whole pipeline in this process; the first line of sweep.row."""
    inputs = open_inputs(config)
    context = open_run(inputs, choose_device(config.device))
    run_pipeline(context, on_event=EventLog(context.store))
    row = next(row for row in result_rows(context.store) if row.row == config.sweep.row)
    return {name: getattr(row, name) for name in ("row", "student", "n", "top1_mean", "top1_std")}


def _trials_table(config: RunConfig, trials: list[dict[str, Any]]) -> Table:
    table = Table(title=f"sweep of {config.run.name}: top-1 of row {config.sweep.row} (%)")
    for heading in (*config.sweep.space, "n", "top-1 (%)", "trial"):
        table.add_column(heading, overflow="fold")
    for trial in sorted(trials, key=lambda trial: -trial.get("top1_mean", -1.0)):
        values = [str(trial["fields"][name]) for name in config.sweep.space]
        spread = "-" if trial.get("top1_std") is None else f"{trial['top1_std']:.2f}"
        shown = (
            ["-", "failed"] if "error" in trial else [str(trial["n"]), f"{trial['top1_mean']:.2f} ± {spread}"]
        )
        table.add_row(*values, *shown, trial["trial"])
    return table


def summary(store: Store, events: list[dict[str, Any]], *, whole: bool = True) -> dict[str, Any]:
    """The object of --json. Without `whole` it holds no accuracy of students."""
    ended = [event for event in events if event["event"] in ("stage_done", "stage_reused", "stage_failed")]
    stages = {
        event["stage"]: {name: event[name] for name in ("seconds", "units_done", "units_reused")}
        for event in ended
    }
    squeeze = read_manifest(store, stage_folder("squeeze"))
    recover = read_manifest(store, stage_folder("recover"))
    rows = result_rows(store) if whole else []
    names = ("row", "ipc", "student", "n", "top1_mean", "top1_std")
    return {
        "run": store.url,
        "rows": [{name: getattr(row, name) for name in names} for row in rows],
        "stages": stages,
        "observers": squeeze.meta["observers"] if squeeze else {},
        "matching_loss": recover.meta["matching_loss"] if recover else None,
    }


def _show(context: StageContext, log: EventLog, output: Output, stderr: Console) -> None:
    store = context.store
    made = [event for event in log.events if event["event"] == "stage_done"]
    stderr.print(f"run: {store.url}", highlight=False, soft_wrap=True)
    if made or not store.exists(join_path(REPORT_FOLDER, REPORT_PAGE)):
        for url in write_report(store, read_events(store), tensorboard=context.config.tracking.tensorboard):
            stderr.print(f"     {url}", highlight=False, soft_wrap=True)
    if output.as_json:
        print(json.dumps(summary(store, log.events)), flush=True)
    elif rows := result_rows(store):
        dataset = context.config.dataset
        title = (
            f"{dataset.name}, method {context.config.method}: top-1 on {len(context.data.val)} real images"
        )
        Console().print(to_table(rows, title))
