from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from edc_ray.config.load import field_paths, load_recipe, with_fields
from edc_ray.config.methods.registry import METHODS
from edc_ray.config.run import STAGE_NAMES, RunConfig, StageName
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units.fingerprint import stage_fingerprint, stage_inputs
from edc_ray.stages.units.plan import Stage

# Which stages see another result when a section changes.
REACH: dict[str, set[str]] = {
    "squeeze": set(STAGE_NAMES),
    "statistics": {"statistics", "recover", "relabel", "evaluate"},
    "init": {"init", "recover", "relabel", "evaluate"},
    "recover": {"recover", "relabel", "evaluate"},
    "relabel": {"relabel", "evaluate"},
    "evaluate": {"evaluate"},
}
# Fields that add or remove units and leave the others alone.
ONLY_WHICH_UNITS = {
    "squeeze.observers": {"init", "recover", "relabel", "evaluate"},  # which default to all observers
    "relabel.epochs": {"evaluate"},
    "relabel.labels": {"evaluate"},  # where it stood before
    "squeeze.weights": set(),  # an observer's own are an input of its unit
    "evaluate.students": set(),
    "evaluate.rows": set(),
    "evaluate.seeds": set(),
    "evaluate.full": set(),
    "evaluate.full_accuracy": set(),
    "evaluate.learning_rates": set(),  # a student's own is in its unit
}
OTHER_VALUES: dict[str, Any] = {
    "squeeze.observers": ["convnet_w32", "wrn_16_2", "convnet_d1"],
    "squeeze.weights": {"wrn_16_2": "torchvision"},
    "squeeze.head_classes": [3, 1],
    "init.observers": ["wrn_16_2"],
    "recover.observers": ["wrn_16_2"],
    "relabel.observers": ["wrn_16_2"],
    "relabel.codec": "q4",
    "evaluate.students": ["wrn_16_2"],
    "evaluate.epochs": 7,
    "evaluate.rows": ["condensed"],
    "evaluate.full_accuracy": 99.0,
    "evaluate.learning_rates": {"wrn_16_2": 0.1},
    "recover.layers": ["bn"],
    "relabel.order_seed": 42,
    "statistics.source": "memory://a/run",
    "init.source": "memory://a/run",
    "relabel.source": "memory://a/run",
}
# Other fields that a field needs to have an effect.
BESIDE: dict[str, dict[str, Any]] = {"recover.carry": {"recover.order": "official"}}
STAGE_FIELDS = [p for p in field_paths() if p.split(".")[0] in REACH]
NEUTRAL_FIELDS: dict[str, Any] = {
    "run.name": "other", "storage.root": "/elsewhere", "storage.options": {"anon": True},
    "sweep.space": {"seed": [1]}, "sweep.num_trials": 3, "tracking.tensorboard": False,
    "cluster.address": "none", "cluster.num_actors": 7, "cluster.min_actors": 2,
    "cluster.cpus_per_actor": 2.0, "cluster.trainings_per_actor": 3,
    "cluster.gpus_per_actor": 0.5, "cluster.retries": 9, "cluster.autoscaling": True,
    "cluster.wait_seconds": 60.0, "run.when_busy": "wait", "storage.patience_seconds": 0.0,
    "cluster.shared_filesystem": True, "dataset.name": "mine", "dataset.cache": "/cache",
    "dataset.download": True, "dataset.allow_weak_observers": True,
}  # fmt: skip


def fingerprints(config: RunConfig) -> dict[str, str]:
    return {stage: stage_fingerprint(config, STAGES[stage]) for stage in STAGE_NAMES}


def changed_by(fields: dict[str, Any], method: str = "edc") -> set[str]:
    """Stages whose fingerprint is another one with these fields."""
    config = METHODS[method](load_recipe("digits"))
    config = with_fields(
        config, {name: value for path in fields for name, value in BESIDE.get(path, {}).items()}
    )
    before, after = fingerprints(config), fingerprints(with_fields(config, fields))
    return {stage for stage in STAGE_NAMES if before[stage] != after[stage]}


def with_version(stage: Stage, name: StageName, version: int) -> Stage:
    """A stage where the code of one that it builds on, or its own, has another version."""
    needs = tuple(with_version(needed, name, version) for needed in stage.needs)
    return replace(stage, needs=needs, version=version if stage.name == name else stage.version)


def another_value(path: str) -> Any:
    """A valid value that the field does not have in the recipe."""
    if path in OTHER_VALUES:
        return OTHER_VALUES[path]
    section, name = path.split(".")
    group = getattr(load_recipe("digits"), section)
    value, kind = getattr(group, name), type(group).model_fields[name].annotation
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return next(option for option in get_args(kind) if option != value)
    if isinstance(value, tuple):
        return [value[0] / 2, value[1]]
    return value + 1 if isinstance(value, int) else value / 2 if value else 0.25


@pytest.mark.parametrize("path", STAGE_FIELDS)
def test_a_field_changes_its_stage_and_those_that_build_on_it_and_no_other(path: str) -> None:
    assert changed_by({path: another_value(path)}) == ONLY_WHICH_UNITS.get(path, REACH[path.split(".")[0]])


def test_no_stage_is_changed_by_one_that_comes_later() -> None:
    for section, reached in REACH.items():
        earlier = STAGE_NAMES[: STAGE_NAMES.index(section)]  # type: ignore[arg-type]
        assert not reached & set(earlier)


@pytest.mark.parametrize("path", NEUTRAL_FIELDS)
def test_where_a_run_is_stored_and_how_many_actors_do_it_changes_no_stage(path: str) -> None:
    assert changed_by({path: NEUTRAL_FIELDS[path]}) == set()


def test_every_field_of_the_cluster_but_the_threads_of_a_unit_is_known_to_be_neutral() -> None:
    cluster = {path for path in field_paths() if path.startswith("cluster.")}
    assert cluster - set(NEUTRAL_FIELDS) == {"cluster.threads_per_unit"}


@pytest.mark.parametrize(
    "fields",
    [
        {"cluster.threads_per_unit": 2},
        {"seed": 1},
        {"device": "cuda"},
        {"deterministic": True},
        {"precision": "bfloat16"},
        {"compile": "default"},
        {"dataset.mean": [0.4]},
        {"dataset.std": [0.4]},
        {"dataset.image_size": 8},
        {"dataset.channels": 3},
        {"dataset.class_names": ["a", "b"]},
        {"dataset.num_classes": 7},
        {"dataset.flip": True},
        {"dataset.train_resize": "whole"},
    ],
)
def test_what_every_number_depends_on_changes_all_stages(fields: dict[str, Any]) -> None:
    assert changed_by(fields) == set(STAGE_NAMES)


def test_runs_made_before_there_was_a_compiler_are_those_without_one() -> None:
    config = load_recipe("digits")
    assert config.compile == "auto"
    assert not any("compile" in stage_inputs(config, stage) for stage in STAGES.values())


@pytest.mark.parametrize(
    ("method", "reached"),
    [
        ("edc", {"relabel", "evaluate"}),
        ("edc_official", {"init", "recover", "relabel", "evaluate"}),
        ("rded", {"init", "recover", "relabel", "evaluate"}),
    ],
)
def test_ipc_changes_only_stages_whose_units_see_the_whole_set(method: str, reached: set[str]) -> None:
    assert changed_by({"ipc": 4}, method) == reached


def test_naming_all_observers_is_the_same_as_naming_none() -> None:
    names = list(load_recipe("digits").squeeze.observers)
    assert changed_by({f"{stage}.observers": names for stage in ("init", "recover", "relabel")}) == set()


def test_one_more_observer_leaves_stages_alone_that_name_theirs() -> None:
    named = {f"{stage}.observers": ["wrn_16_2"] for stage in ("init", "recover", "relabel")}
    fewer = with_fields(load_recipe("digits"), named)
    more = with_fields(fewer, {"squeeze.observers": ["convnet_w32", "wrn_16_2", "convnet_d1"]})
    assert fingerprints(fewer) == fingerprints(more)


def test_the_name_of_a_method_changes_no_stage_but_its_fields_do() -> None:
    config = load_recipe("digits")
    assert fingerprints(config.model_copy(update={"method": "mine"})) == fingerprints(config)
    assert changed_by({"method": "edc_official"}) == set(STAGE_NAMES) - {"squeeze", "statistics"}


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_the_version_of_the_code_of_a_stage_is_part_of_it_and_of_those_that_build_on_it(
    stage: StageName,
) -> None:
    config = load_recipe("digits")
    raised = {name: with_version(STAGES[name], stage, 99) for name in STAGE_NAMES}
    after = {name: stage_fingerprint(config, raised[name]) for name in STAGE_NAMES}
    assert {name for name, before in fingerprints(config).items() if before != after[name]} == REACH[stage]


def test_stages_of_one_config_have_different_fingerprints() -> None:
    assert len(set(fingerprints(load_recipe("digits")).values())) == len(STAGE_NAMES)


@pytest.mark.parametrize("field", ["statistics.source", "init.source", "relabel.source"])
def test_where_a_source_lies_is_not_in_the_fingerprint(field: str) -> None:
    one, other = (with_fields(load_recipe("digits"), {field: url}) for url in ("memory://a", "memory://b"))
    assert fingerprints(one) == fingerprints(other) != fingerprints(load_recipe("digits"))


def test_images_taken_from_another_run_can_grow_with_any_mosaics() -> None:
    config = load_recipe("digits", ["init.mosaic_order=rded"])
    assert STAGES["recover"].ipc_matters(config)
    assert not STAGES["recover"].ipc_matters(with_fields(config, {"init.source": "memory://other"}))
