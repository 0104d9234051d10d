"""A sweep: one run of the pipeline for each point of a search space, on Ray Tune.

The trials are fixed before the first one starts: the same config gives the same trials. Only our own log of
finished trials decides which are skipped next time. Ray's state is never read.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ray import tune
from ray.exceptions import RayTaskError

from edc_ray.artifacts.storage.layout import SWEEP_FOLDER, TRIALS_FOLDER
from edc_ray.artifacts.storage.limits import MAX_CONFIG_BYTES
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.cluster.resources import check_fit, check_storage, worker_device, worker_size
from edc_ray.cluster.session import alive_nodes, ray_session
from edc_ray.config.load import deviations_from_method, with_fields
from edc_ray.config.run import RunConfig
from edc_ray.data.real.sources import open_dataset
from edc_ray.digests import digest_of
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.runs.open_run import run_url
from edc_ray.runs.placement import sweep_on_ray
from edc_ray.stages.pipeline import STAGES

RunTrial = Callable[[RunConfig], dict[str, Any]]
_NOT_SEARCHED = ("run", "storage", "cluster", "sweep", "tracking")


@dataclass(frozen=True)
class Trial:
    """One point of the search space: the fields that differ from the sweep's config, and the complete config.

    `key` names its run below the sweep's folder. It is a hash of everything that changes the result.
    """

    key: str
    fields: dict[str, Any]
    config: RunConfig

    @property
    def log_path(self) -> str:
        """Path of its result in the store of the sweep's run."""
        return f"{TRIALS_FOLDER}/{self.key}.json"


def run_sweep(config: RunConfig, run_trial: RunTrial) -> list[dict[str, Any]]:
    """Run the trials of `config.sweep` that have no logged result.

    Each trial is a run, `<storage.root>/<run.name>/sweep/<trial>`, in one process without Ray.

    Args:
        config: with `sweep.space`. Trials run one after another in this process, or on Ray: see
            `sweep_on_ray`.
        run_trial: from a trial's config to its result as JSON values; called in other processes.

    Returns:
        A row for each trial in the order of the plan: `trial`, `fields`, `reused`, and either the result's
        values and `seconds`, or `error`. A failed trial raises nothing and runs again next time.

    Raises:
        DataError: images of a trial cannot be read.
        ConfigError: the space names an unknown field or a value that it cannot have.
        ResourceError: more trials at once than fit on the cluster.
    """
    store = open_store(run_url(config), dict(config.storage.options))
    trials = planned_trials(config, store.url, _images_of_trials())
    known = {trial.key: row for trial in trials if (row := _logged(store, trial))}
    missing = [trial for trial in trials if trial.key not in known]
    run_missing = _run_on_ray if sweep_on_ray(config) else _run_here
    errors = run_missing(config, store, missing, run_trial)
    rows = []
    for trial in trials:
        row = {"trial": trial.key, "fields": trial.fields, "reused": trial.key in known}
        found = known.get(trial.key) or _logged(store, trial)
        rows.append(row | (found or {"error": errors.get(trial.key, "the trial left no result")}))
    return rows


def _images_of_trials() -> Callable[[RunConfig], list[str]]:
    """Digests of a config's images. Each dataset is opened once for all its trials."""
    known: dict[str, list[str]] = {}

    def images_of(config: RunConfig) -> list[str]:
        key = digest_of([config.dataset.model_dump(mode="json"), config.seed])
        if key not in known:
            data = open_dataset(config.dataset, config.seed)
            known[key] = [data.train.content_hash, data.val.content_hash]
        return known[key]

    return images_of


def _run_here(config: RunConfig, store: Store, trials: list[Trial], run_trial: RunTrial) -> dict[str, str]:
    errors = {}
    for trial in trials:
        try:
            _run_and_log(store, trial, run_trial)
        except Exception as error:
            errors[trial.key] = f"{type(error).__name__}: {error}"
    return errors


def _run_on_ray(config: RunConfig, store: Store, trials: list[Trial], run_trial: RunTrial) -> dict[str, str]:
    """Errors of the failed trials. Results are in the log."""
    if not trials:
        return {}
    with ray_session(config.cluster.address), tempfile.TemporaryDirectory(
        prefix="edc-ray-tune-", ignore_cleanup_errors=True
    ) as scratch:  # fmt: skip
        nodes = alive_nodes()
        check_storage(config, len(nodes))
        size = worker_size(config, nodes)
        if not config.cluster.autoscaling:
            at_once = min(config.sweep.max_concurrent, len(trials))
            check_fit("the sweep", at_once, size, nodes, field="sweep.max_concurrent", noun="trials")
        # A trial uses only what it holds: a worker without a GPU may still see one.
        device = {"device": worker_device(config, size)}
        by_key = {one.key: replace(one, config=one.config.model_copy(update=device)) for one in trials}

        def trainable(space: dict[str, str]) -> dict[str, Any]:
            return _run_and_log(store, by_key[space["trial"]], run_trial)

        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": size.cpus, "gpu": size.gpus}),
            param_space={"trial": tune.grid_search(list(by_key))},
            tune_config=tune.TuneConfig(max_concurrent_trials=config.sweep.max_concurrent),
            run_config=tune.RunConfig(name=config.run.name, storage_path=scratch, verbose=0),
        )
        failed = [result for result in tuner.fit() if result.error is not None]
    return {result.config["trial"]: _explained(result.error) for result in failed if result.config}


def _run_and_log(store: Store, trial: Trial, run_trial: RunTrial) -> dict[str, Any]:
    started = time.monotonic()
    result = run_trial(trial.config)
    row = {"fields": trial.fields, "result": result, "seconds": round(time.monotonic() - started, 3)}
    store.publish(trial.log_path, json.dumps(row, sort_keys=True).encode(), replace=True)
    return {"done": 1}


def _logged(store: Store, trial: Trial) -> dict[str, Any] | None:
    """The result of a finished trial; None without a readable log."""
    if not store.exists(trial.log_path):
        return None
    try:
        row = json.loads(store.read(trial.log_path, limit=MAX_CONFIG_BYTES))
        return {**row["result"], "seconds": row["seconds"]}
    except (ValueError, TypeError, KeyError, ArtifactError):
        return None


def _explained(error: Exception | None) -> str:
    cause = getattr(error, "cause", None) if isinstance(error, RayTaskError) else None
    shown = cause if isinstance(cause, Exception) else error
    return f"{type(shown).__name__}: {shown}"


def planned_trials(config: RunConfig, run_url: str, images_of: Callable[[RunConfig], Any]) -> list[Trial]:
    """All trials of a sweep whose run is at `run_url`, without duplicates.

    `images_of` gives a digest of the images of a config as a JSON value. Raises ConfigErrors as `run_sweep`.
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
    trials = (_trial(config, point, run_url, images_of) for point in points)
    return list({trial.key: trial for trial in trials}.values())


def _trial(
    config: RunConfig, fields: dict[str, Any], run_url: str, images_of: Callable[[RunConfig], Any]
) -> Trial:
    alone = {"cluster.address": "none", "tracking.progress": "none", "sweep.space": {}}
    changed: dict[str, Any] = {}
    if fields.keys() & {"method", "ipc"}:
        # A method's values depend on both. Fields that the sweep's own config changes keep their values.
        changed = {name: value for name, (value, _) in deviations_from_method(config).items()}
        changed |= {"method": config.method}
    config = with_fields(config, alone | changed | fields | {"storage.root": f"{run_url}/{SWEEP_FOLDER}"})
    if config.sweep.row not in config.evaluate.rows:
        raise ConfigError(
            "sweep.row is not among the rows of its trials",
            found=f"sweep.row={config.sweep.row}, evaluate.rows={list(config.evaluate.rows)}",
            next=f"add {config.sweep.row} to evaluate.rows",
        )
    tree = config.model_dump(mode="json")
    counted = {name: value for name, value in tree.items() if name not in _NOT_SEARCHED}
    counted |= {
        "row": config.sweep.row,
        "threads_per_unit": config.cluster.threads_per_unit,
        "code_version": {name: stage.version for name, stage in STAGES.items()},
        "images": images_of(config),
    }
    key = f"trial-{digest_of(counted)}"
    return Trial(key, fields, with_fields(config, {"run.name": key}))


def _grid(space: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for field, values in space.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"sweep.space.{field} is not a list of values",
                found=repr(values),
                next="give a list, or set sweep.search=random",
            )
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def _random(config: RunConfig) -> Iterator[dict[str, Any]]:
    for number in range(config.sweep.num_trials):
        # Python guarantees what `random()` gives for a seed. Each value has its own seed, so a new field or
        # more trials do not change the others.
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
        f"sweep.space.{field} has an unknown form",
        found=repr(law),
        expected="[values] or {choice: [values]}, {uniform: [low, high]}, {loguniform: [low, high]}, "
        "{randint: [low, high]}, both ends included",
    )
