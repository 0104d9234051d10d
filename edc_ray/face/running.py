"""Running a config from a script or a notebook."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edc_ray.config.load import unknown_name
from edc_ray.config.run import STAGE_NAMES, RunConfig, StageName
from edc_ray.face.run import Run
from edc_ray.launch import launch, launch_sweep
from edc_ray.report.progress import ProgressBar
from edc_ray.report.table import ShownTable
from edc_ray.runs.open_run import run_url
from edc_ray.stages.pipeline import OnEvent

logger = logging.getLogger(__name__)


def run(
    config: RunConfig,
    stages: Iterable[str] = STAGE_NAMES,
    *,
    progress: bool = True,
    on_event: OnEvent | None = None,
) -> Run:
    """Bring the stages of a run to completion; what is complete is left alone. Its report is written as well.

    Args:
        config: from `edc_ray.recipe` or `edc_ray.load_config`.
        stages: some of squeeze, statistics, init, recover, relabel, evaluate. What they need must be done.
        progress: show one bar on a terminal or in a notebook; elsewhere nothing is shown.
        on_event: gets each event as a mapping, such as {"event": "unit_done", "stage": ..., "unit": ...}; see
            `edc_ray.launch.launch`. What a person should know before work starts is an event "note"; without
            `on_event` it is logged.

    Returns:
        The run in its folder, <storage.root>/<run.name>.

    Raises:
        ConfigError, DataError, ArtifactError, ResourceError: the input is not fit; nothing was done.
        UnitsFailedError: some units failed; the others are done and are not done again.
    """
    wanted = list(stages)
    if unknown := [name for name in wanted if name not in STAGE_NAMES]:
        raise unknown_name("stage", unknown[0], STAGE_NAMES)
    chosen: list[StageName] = [name for name in STAGE_NAMES if name in wanted]
    with ProgressBar(len(chosen), enabled=progress and config.tracking.progress != "none") as bar:

        def tell(event: dict[str, Any]) -> None:
            bar(event)
            (on_event or _log_note)(event)

        return Run(launch(config, chosen, tell))


@dataclass(frozen=True)
class Sweep:
    """The trials of a sweep.

    Args:
        name: of the sweep's run.
        url: of its folder.
        row: of the table, by which trials are compared.
        trials: a mapping for each: `trial` (its name), `fields` (what differs), `reused`, and either `row`,
            `student`, `n`, `top1_mean`, `top1_std` (percent), `seconds`, or `error` (text).
    """

    name: str
    url: str
    row: str
    trials: list[dict[str, Any]]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Trials without a result; the next call runs them again."""
        return [trial for trial in self.trials if "error" in trial]

    def table(self) -> ShownTable:
        """The trials, best first."""
        fields = list(dict.fromkeys(field for trial in self.trials for field in trial["fields"]))
        ordered = sorted(self.trials, key=lambda trial: -trial.get("top1_mean", -1.0))
        lines = [
            [
                *(str(trial["fields"].get(field, "")) for field in fields),
                *_result_cells(trial),
                trial["trial"],
            ]
            for trial in ordered
        ]
        title = f"sweep of {self.name}: top-1 of row {self.row} (%)"
        return ShownTable(title, [*fields, "n", "top-1 (%)", "trial"], lines)

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def sweep(config: RunConfig) -> Sweep:
    """Run the trials of `config.sweep` that are not done yet, each a run of its own.

    A trial that fails is no error of the sweep: see `Sweep.failed`.

    Raises:
        ConfigError, DataError, ResourceError: the input is not fit; nothing was done.
    """
    return Sweep(config.run.name, run_url(config), config.sweep.row, launch_sweep(config))


def _log_note(event: dict[str, Any]) -> None:
    if event["event"] == "note":
        logger.info(event["text"])


def _result_cells(trial: dict[str, Any]) -> list[str]:
    if "error" in trial:
        return ["-", "failed"]
    spread = "-" if trial["top1_std"] is None else f"{trial['top1_std']:.2f}"
    return [str(trial["n"]), f"{trial['top1_mean']:.2f} ± {spread}"]
