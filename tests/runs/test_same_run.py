"""A folder takes a config and images that fit its content, and refuses others with advice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edc_ray.artifacts.storage.layout import RUN_CONFIG, RUN_DATA, record_path, stage_folder
from edc_ray.config.run import RunConfig
from edc_ray.errors import ConfigError
from edc_ray.launch import launch
from edc_ray.runs.open_run import (
    Inputs,
    open_run,
)
from edc_ray.runs.same_run import check_same_run
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import copy_root, run_until, tiny_context, units_of


def _root_of(context: StageContext) -> str:
    return context.store.url.rsplit("/", 1)[0]


CHANGES: list[tuple[str, Any, str, tuple[str, str]]] = [
    ("seed", 5, "squeeze", ("seed=0", "seed=5")),
    ("squeeze__epochs", 2, "squeeze", ("squeeze.epochs=1", "squeeze.epochs=2")),
    ("recover__iterations", 7, "recover", ("recover.iterations=3", "recover.iterations=7")),
    ("recover__observers", ["wrn_16_2"], "recover", ("convnet_d1", "recover.observers=['wrn_16_2']")),
    ("relabel__mix", "mixup", "relabel", ("relabel.mix='cutmix'", "relabel.mix='mixup'")),
    ("ipc", 1, "recover", ("ipc=2", "ipc=1")),
    ("relabel__epochs", 2, "relabel", ("relabel.epochs=3", "relabel.epochs=2")),
    ("evaluate__learning_rate", 0.5, "evaluate", ("evaluate.learning_rate=0.005", "=0.5")),
    ("cluster__threads_per_unit", 2, "squeeze", ("threads_per_unit=1", "threads_per_unit=2")),
]


@pytest.mark.parametrize(("field", "value", "stage", "words"), CHANGES, ids=[c[0] for c in CHANGES])
def test_a_folder_of_another_config_is_refused_with_the_fields_that_differ(
    finished: StageContext, field: str, value: Any, stage: str, words: tuple[str, str]
) -> None:
    with pytest.raises(ConfigError, match=f"{stage}: the run folder .* made by another config") as caught:
        tiny_context(_root_of(finished), **{field: value})
    assert words[0] in str(caught.value.found)
    assert words[1] in str(caught.value.expected)
    assert "run.name" in str(caught.value.next)
    differing = str(caught.value.found).split("; ")
    assert len(differing) == 1, "a field that agrees is listed"


@pytest.mark.parametrize(
    ("fields", "found", "next_words"),
    [
        ({"seed": 5}, "seed=0", ["run: seed=0"]),
        (
            {"recover__iterations": 7, "evaluate__learning_rate": 0.5},
            "evaluate.learning_rate=0.005; recover.iterations=3",
            [
                "evaluate.learning_rate=0.005 recover.iterations=3",
                "without condensed/, labels/, results/, keeps squeeze",
            ],
        ),
        (
            {"recover__layers": ["conv"]},
            "recover.layers=['bn', 'conv']",
            ['\'recover.layers=["bn","conv"]\''],
        ),
        (
            {"squeeze__observers": ["wrn_16_2"]},
            "squeeze.observers=['convnet_d1', 'wrn_16_2']",
            ["without init/"],
        ),
        ({"compile": "default"}, "compile='auto'", ["run: compile=auto"]),
    ],
    ids=["seed", "two stages", "a list", "observers", "compile"],
)
def test_the_next_step_fits_the_difference(
    finished: StageContext, fields: dict[str, Any], found: str, next_words: list[str]
) -> None:
    with pytest.raises(ConfigError, match="made by another config") as caught:
        tiny_context(_root_of(finished), **fields)
    assert caught.value.found == found
    assert all(words in str(caught.value.next) for words in next_words)
    assert ("A copy of" in str(caught.value.next)) == ("seed" not in fields and "compile" not in fields)


def test_what_follows_from_a_method_or_from_other_images_is_told_by_its_cause(
    tiny_config: Callable[..., RunConfig], tiny_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "digits")

    def refused(**fields: Any) -> ConfigError:
        with pytest.raises(ConfigError, match="made by another config") as caught:
            launch(tiny_config(tmp_path, **fields), ["evaluate"])
        return caught.value

    images = refused(**{"dataset.val_fraction": 0.5, "dataset.max_per_class": 20})
    assert images.found == "dataset.max_per_class=30; dataset.val_fraction=0.25"
    assert str(images.next).endswith("run: dataset.max_per_class=30 dataset.val_fraction=0.25")
    method = refused(method="rded")
    assert str(method.found).startswith("method='edc'; ")
    assert "ipc" not in str(method.found).replace("ipc_per_unit", "")
    assert "this run: method=edc. A copy of" in str(method.next)
    moved = refused(**{"evaluate.loss": "kl", "dataset.cache": "elsewhere"})
    assert moved.found == "evaluate.loss='mse_ce'"


def test_a_folder_of_another_config_is_left_as_it_was(finished: StageContext) -> None:
    before = finished.store.read(RUN_CONFIG)
    with pytest.raises(ConfigError):
        tiny_context(_root_of(finished), seed=9)
    assert finished.store.read(RUN_CONFIG) == before


@pytest.mark.parametrize(
    "fields",
    [
        {"cluster__num_actors": 9},
        {"ipc": 3},
        {"relabel__epochs": 4},
        {"evaluate__seeds": 5},
        {"evaluate__rows": ["condensed"]},
        {"evaluate__students": ["wrn_16_2", "convnet_d1"]},
        {"evaluate__full_accuracy": 50.0},
        {"tracking__tensorboard": False},
        {"dataset__name": "renamed"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_changes_no_unit_is_no_other_config(finished: StageContext, fields: dict[str, Any]) -> None:
    tiny_context(copy_root(finished.store), **fields)


@pytest.mark.parametrize(
    "fields", [{"init__mosaic_order": "rded"}, {"recover__order": "official"}], ids=["mosaics", "slots"]
)
def test_a_run_whose_images_depend_on_ipc_cannot_grow(fields: dict[str, Any]) -> None:
    context = tiny_context(**fields)
    run_until(context, "recover")
    with pytest.raises(ConfigError, match="made by another config") as caught:
        tiny_context(_root_of(context), ipc=3, **fields)
    assert caught.value.found == "ipc=2"


def test_more_epochs_are_no_other_config_where_only_ipc_is_fixed() -> None:
    context = tiny_context(init__mosaic_order="rded")
    run_until(context, "evaluate")
    tiny_context(_root_of(context), init__mosaic_order="rded", relabel__epochs=9)


def test_more_students_and_seeds_leave_the_units_there_are_alone(finished: StageContext) -> None:
    more = tiny_context(
        copy_root(finished.store), evaluate__seeds=3, evaluate__students=["wrn_16_2", "convnet_d1"]
    )
    there = {unit.fingerprint for unit in units_of(finished, "evaluate")}
    assert there < {unit.fingerprint for unit in units_of(more, "evaluate")}


def test_fields_of_a_stage_without_results_may_change() -> None:
    context = tiny_context()
    run_until(context, "init")
    tiny_context(_root_of(context), recover__iterations=9, relabel__mix="none")
    with pytest.raises(ConfigError, match=r"init\.factor"):
        tiny_context(_root_of(context), init__factor=1)


def test_half_a_stage_counts_as_results() -> None:
    context = tiny_context()
    context.store.publish(record_path(stage_folder("recover"), "classes-0"), b"{}")
    with pytest.raises(ConfigError, match=r"recover\.iterations"):
        tiny_context(_root_of(context), recover__iterations=9)


def test_a_stored_config_that_cannot_be_read_is_refused(finished: StageContext) -> None:
    for damaged in (b"seed: [", b"\xff\xfe", b"dataset: 5", b"no_such_field: 1"):
        root = copy_root(finished.store)
        store = tiny_context(root).store
        store.publish(RUN_CONFIG, damaged, replace=True)
        with pytest.raises(ConfigError, match=r"run\.yaml cannot be read") as caught:
            check_same_run(store, finished.config)
        assert "run.name" in str(caught.value.next)


def test_a_folder_with_results_of_other_images_is_refused_though_the_config_is_the_same(
    copied: Callable[..., StageContext],
) -> None:
    context = copied()
    context.store.publish(RUN_DATA, b'{"train": {"images": 1}}', replace=True)
    with pytest.raises(ConfigError, match="made from other images"):
        open_run(Inputs(context.config, context.store, context.data), torch.device("cpu"))
