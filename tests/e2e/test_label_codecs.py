"""What codecs of soft labels cost students of real digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edc_ray.artifacts.storage.store import open_store
from edc_ray.config.load import load_recipe, with_fields
from edc_ray.sharing.compress import compress_run
from edc_ray.stages.evaluate.stage import plan, train_student
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.numerics import unit_numerics
from tests.stages.tiny_runs import context_of, manifest_of, new_root

EPOCHS = 60
FIELDS: dict[str, Any] = {
    "ipc": 3,
    "cluster.address": "none",
    "device": "cpu",
    "squeeze.observers": ["convnet_d1"],
    "squeeze.epochs": 6,
    "recover.enabled": False,
    "relabel.epochs": EPOCHS,
    "relabel.mix_group": 10,
    "evaluate.students": ["convnet_d1"],
    "evaluate.rows": ["condensed", "random_hard"],
    "evaluate.seeds": 2,
    "evaluate.batch_size": 10,
}


@pytest.fixture(scope="module")
def digits() -> StageContext:
    root = new_root()
    context = context_of(with_fields(load_recipe("digits"), FIELDS | {"storage.root": root}))
    run_pipeline(context)
    return context


def accuracies(context: StageContext, row: str = "condensed") -> list[float]:
    results = [record.meta["result"] for record in manifest_of(context, "evaluate").records]
    return [result["top1"] for result in results if result["row"] == row]


def accuracies_of(digits: StageContext, codec: str, epochs: int) -> list[float]:
    """Students of the same seeds on the run's labels in a codec, of so many epochs."""
    root = new_root()
    compress_run(digits.store.url, f"{root}/copy", codec=codec, keep_epochs=epochs)
    fields = {
        "storage.root": root, "run.name": "copy", "relabel.epochs": epochs, "evaluate.epochs": EPOCHS,
        "evaluate.rows": ["condensed"],
    }  # fmt: skip
    context = StageContext(
        with_fields(digits.config, fields), open_store(f"{root}/copy"), digits.data, digits.device
    )
    with unit_numerics(
        context.config, context.device
    ):  # its number of threads: the run's own students had it
        return [train_student(context, unit).meta["result"]["top1"] for unit in plan(context)]


@pytest.mark.nightly
def test_students_of_a_copy_without_loss_are_those_of_the_run(digits: StageContext) -> None:
    assert accuracies_of(digits, "fp16", EPOCHS) == accuracies(digits)


@pytest.mark.nightly
@pytest.mark.parametrize(("codec", "epochs"), [("q6", 60), ("pca48", 60), ("pca32", 60), ("pca48", 20)])
def test_small_labels_cost_students_little(digits: StageContext, codec: str, epochs: int) -> None:
    """Soft labels are worth nine points against hard ones here; seeds differ by a third of a point."""
    full, hard = np.mean(accuracies(digits)), np.mean(accuracies(digits, "random_hard"))
    lost = full - np.mean(accuracies_of(digits, codec, epochs))
    assert hard < full - 5
    assert lost < 1.5, f"{codec}, {epochs} epochs: {lost:.2f} points of {full:.2f}; hard labels {hard:.2f}"
