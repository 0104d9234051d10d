"""The trials of a sweep, fixed before the first one starts. The same config gives the same trials."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edc_ray.config.load import deviations_from_method, with_fields
from edc_ray.config.run import RunConfig
from edc_ray.digests import digest_of
from edc_ray.errors import ConfigError
from edc_ray.stages.pipeline import STAGES

SWEEP_FOLDER = "sweep"
_NOT_SEARCHED = ("run", "storage", "cluster", "sweep", "tracking")


@dataclass(frozen=True)
class Trial:
    """One point of the search space.

    Args:
        key: name of its run below the sweep's folder: a hash of everything that changes the result.
        fields: that differ from the sweep's config.
        config: complete.
    """

    key: str
    fields: dict[str, Any]
    config: RunConfig

    @property
    def log_path(self) -> str:
        """Path of its result in the store of the sweep's run."""
        return f"{SWEEP_FOLDER}/trials/{self.key}.json"


def planned_trials(config: RunConfig, run_url: str, images_of: Callable[[RunConfig], Any]) -> list[Trial]:
    """All trials of a sweep, without duplicates.

    Args:
        config: of the sweep.
        run_url: folder of the sweep's run.
        images_of: digest of the images of a trial's config, as a JSON value.

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
