"""A sweep: the pipeline run once for each point of a search space, on Ray Tune.

The points are fixed before anything starts, so the same config gives the same trials again. A finished trial
is written to the run's own log, which alone says what need not be run again; Ray's state is never read back.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from edc_ray.artifacts.store import Store, open_store
from edc_ray.cluster.resources import WorkerSize, check_cluster, check_fit
from edc_ray.cluster.session import alive_nodes, ray_session
from edc_ray.config.load import with_fields
from edc_ray.config.run import RunConfig, digest_of
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.stages.open_run import run_url

RunTrial = Callable[[RunConfig], dict[str, Any]]

SWEEP_FOLDER = "sweep"
_NOT_SEARCHED = ("run", "storage", "cluster", "sweep", "tracking")


@dataclass(frozen=True)
class Trial:
    """One point of the search space.

    Args:
        key: name of its run, below the sweep's folder; a hash of all that changes its result.
        fields: what differs from the sweep's config.
        config: its own, complete.
    """

    key: str
    fields: dict[str, Any]
    config: RunConfig

    @property
    def log_path(self) -> str:
        """Where its result stands in the store of the sweep's run."""
        return f"{SWEEP_FOLDER}/trials/{self.key}.json"


def run_sweep(config: RunConfig, run_trial: RunTrial) -> list[dict[str, Any]]:
    """Run the trials of `config.sweep` that no log proves.

    Each trial is a run of its own, `<storage.root>/<run.name>/sweep/<trial>`, in a process without Ray inside.

    Args:
        config: with `sweep.space`; `cluster.address=none` runs trials one after the other in this process.
        run_trial: gets the config of a trial and returns its result as JSON values; called in other processes.

    Returns:
        A row for each trial in the order of the plan: `trial`, `fields`, `reused`, and either the result's
        values and `seconds`, or `error`. A failed trial is no error of the sweep and is run again next time.

    Raises:
        ConfigError: the space names an unknown field or holds a value that it cannot have.
        ResourceError: more trials at once than the cluster can hold.
    """
    store = open_store(run_url(config), dict(config.storage.options))
    trials = planned_trials(config, store.url)
    known = {trial.key: row for trial in trials if (row := _logged(store, trial)) is not None}
    missing = [trial for trial in trials if trial.key not in known]
    errors = (_run_here if config.cluster.address == "none" else _run_on_ray)(
        config, store, missing, run_trial
    )
    rows = []
    for trial in trials:
        row: dict[str, Any] = {"trial": trial.key, "fields": trial.fields, "reused": trial.key in known}
        found = known.get(trial.key) or _logged(store, trial)
        rows.append(row | (found or {"error": errors.get(trial.key, "the trial left no result")}))
    return rows


def planned_trials(config: RunConfig, run_url: str) -> list[Trial]:
    """All trials of a sweep; equal ones once.

    Args:
        config: of the sweep.
        run_url: folder of the sweep's run.

    Raises:
        ConfigError: as `run_sweep`.
    """
    space = config.sweep.space
    if not space:
        raise ConfigError("sweep.space is empty", next="such as sweep.space.recover.iterations=[100,1000]")
    for field in space:
        if field.split(".")[0] in _NOT_SEARCHED:
            raise ConfigError(
                f"sweep.space cannot hold '{field}'", expected="a field that can change a result"
            )
    points = _grid(space) if config.sweep.search == "grid" else _random(config)
    trials = (_trial(config, point, run_url) for point in points)
    return list({trial.key: trial for trial in trials}.values())


def _trial(config: RunConfig, fields: dict[str, Any], run_url: str) -> Trial:
    alone = {"cluster.address": "none", "tracking.progress": "none", "sweep.space": {}}
    config = with_fields(config, alone | fields | {"storage.root": f"{run_url}/{SWEEP_FOLDER}"})
    tree = config.model_dump(mode="json")
    counted = {name: value for name, value in tree.items() if name not in _NOT_SEARCHED}
    counted |= {"row": config.sweep.row, "threads_per_unit": config.cluster.threads_per_unit}
    key = f"trial-{digest_of(counted)}"
    return Trial(key, fields, with_fields(config, {"run.name": key}))


def _grid(space: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for field, values in space.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"sweep.space.{field} is no list of values",
                found=repr(values),
                next="or set sweep.search=random",
            )
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def _random(config: RunConfig) -> Iterator[dict[str, Any]]:
    for number in range(config.sweep.num_trials):
        # Python promises the sequence of `random()` for a seed; each value has its own, so that a new field
        # or more trials leave the others as they were.
        yield {
            field: _sample(field, law, random.Random(f"{config.seed}/{number}/{field}").random())
            for field, law in config.sweep.space.items()
        }


def _sample(field: str, law: Any, u: float) -> Any:
    if isinstance(law, list):
        law = {"choice": law}
    match law:
        case {"choice": [_, *_] as values}:
            return values[int(u * len(values))]
        case {"uniform": [int() | float() as low, int() | float() as high]} if low < high:
            return low + u * (high - low)
        case {"loguniform": [int() | float() as low, int() | float() as high]} if 0 < low < high:
            return math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        case {"randint": [int() as low, int() as high]} if low < high:
            return low + int(u * (high - low + 1))
    raise ConfigError(
        f"sweep.space.{field} is not understood",
        found=repr(law),
        expected="[values] or {choice: [values]}, {uniform: [low, high]}, {loguniform: [low, high]}, "
        "{randint: [low, high]} with both ends",
    )


def _run_here(config: RunConfig, store: Store, trials: list[Trial], run_trial: RunTrial) -> dict[str, str]:
    errors = {}
    for trial in trials:
        try:
            _run_and_log(store, trial, run_trial)
        except Exception as error:
            errors[trial.key] = f"{type(error).__name__}: {error}"
    return errors


def _run_on_ray(config: RunConfig, store: Store, trials: list[Trial], run_trial: RunTrial) -> dict[str, str]:
    """Errors of the trials that failed; results are in the log."""
    if not trials:
        return {}
    with ray_session(config.cluster.address), tempfile.TemporaryDirectory(
        prefix="edc-ray-tune-", ignore_cleanup_errors=True
    ) as scratch:  # fmt: skip
        nodes = alive_nodes()
        size = check_cluster(config, nodes)
        if not config.cluster.autoscaling:
            at_once = min(config.sweep.max_concurrent, len(trials))
            check_fit("the sweep", at_once, size, nodes, field="sweep.max_concurrent", noun="trials")
        tuner = _tuner(config, store, trials, run_trial, size, scratch)
        failed = [result for result in tuner.fit() if result.error is not None]
    return {result.config["trial"]: _explained(result.error) for result in failed if result.config}


def _tuner(
    config: RunConfig, store: Store, trials: list[Trial], run_trial: RunTrial, size: WorkerSize, scratch: str
) -> tune.Tuner:
    by_key = {trial.key: trial for trial in trials}

    def trainable(space: dict[str, str]) -> dict[str, Any]:
        return _run_and_log(store, by_key[space["trial"]], run_trial)

    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": size.cpus, "gpu": size.gpus}),
        param_space={"trial": tune.grid_search(list(by_key))},
        tune_config=tune.TuneConfig(max_concurrent_trials=config.sweep.max_concurrent),
        run_config=tune.RunConfig(name=config.run.name, storage_path=scratch, verbose=0),
    )


def _run_and_log(store: Store, trial: Trial, run_trial: RunTrial) -> dict[str, Any]:
    started = time.monotonic()
    result = run_trial(trial.config)
    row = {"fields": trial.fields, "result": result, "seconds": round(time.monotonic() - started, 3)}
    store.publish(trial.log_path, json.dumps(row, sort_keys=True).encode(), replace=True)
    return {"done": 1}


def _logged(store: Store, trial: Trial) -> dict[str, Any] | None:
    """The values of a finished trial; None where no readable log proves it."""
    if not store.exists(trial.log_path):
        return None
    try:
        row = json.loads(store.read(trial.log_path))
        return {**row["result"], "seconds": row["seconds"]}
    except (ValueError, TypeError, KeyError, ArtifactError):
        return None


def _explained(error: Exception) -> str:
    cause = getattr(error, "cause", None) if isinstance(error, ray.exceptions.RayTaskError) else None
    shown = cause if isinstance(cause, Exception) else error
    return f"{type(shown).__name__}: {shown}"
