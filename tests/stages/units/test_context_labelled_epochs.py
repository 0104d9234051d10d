"""Labels that several students share, and epochs that they see again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pytest
import torch

from edc_ray.data.condensed.label_rows import rounded_by
from edc_ray.stages.evaluate.rows import row_of, shown_epoch
from edc_ray.stages.units.context import LabelledEpochs, RowLabels, StageContext
from tests.stages.tiny_runs import manifest_of, run_until, tiny_config


class Labeller:
    """Counts how often it is asked; each answer takes 8 bytes."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def of(self, epoch: int):
        def label() -> np.ndarray:
            self.asked.append(epoch)
            return np.full(1, float(epoch))

        return label


def asked(labels: RowLabels, labeller: Labeller, *epochs: int) -> None:
    for epoch in epochs:
        assert labels.get(epoch, labeller.of(epoch), nullcontext()).tolist() == [epoch]


def test_an_epoch_is_labelled_once_for_all_students_of_a_row() -> None:
    kept, labeller = LabelledEpochs(), Labeller()
    for _ in range(3):
        asked(kept.of_row("init"), labeller, 0, 1, 2, 3)
    assert labeller.asked == [0, 1, 2, 3]


def test_students_who_ask_for_an_epoch_at_once_share_one_labelling() -> None:
    labels, labeller, both_ask, turn = LabelledEpochs().of_row("init"), Labeller(), Barrier(2), Lock()

    @contextmanager
    def making() -> Iterator[None]:
        both_ask.wait(60)
        with turn:
            yield

    with ThreadPoolExecutor(2) as pool:
        students = [pool.submit(labels.get, 0, labeller.of(0), making()) for _ in range(2)]
        assert [student.result().tolist() for student in students] == [[0.0], [0.0]]
    assert labeller.asked == [0]


def test_what_does_not_fit_is_labelled_again_and_what_came_first_stays() -> None:
    kept, labeller = LabelledEpochs(limit=16), Labeller()
    for _ in range(2):
        asked(kept.of_row("init"), labeller, 0, 1, 2, 3)
    assert labeller.asked == [0, 1, 2, 3, 2, 3]


def test_a_row_that_no_student_sees_makes_room_for_another() -> None:
    kept, labeller = LabelledEpochs(limit=8), Labeller()
    for row in ("init", "condensed", "init"):
        asked(kept.of_row(row), labeller, 0)
    assert labeller.asked == [0, 0, 0]


def test_rows_that_students_see_at_once_keep_their_labels() -> None:
    kept, labeller = LabelledEpochs(limit=16), Labeller()
    seen = [kept.of_row("init"), kept.of_row("condensed")]
    for row in ("init", "condensed", "init", "condensed"):
        asked(kept.of_row(row), labeller, 0)
    assert labeller.asked == [0, 0]
    assert [row.nbytes for row in seen] == [8, 8]


def shown(**fields: Any) -> list[int]:
    given: dict[str, Any] = {"relabel__epochs": 3, "evaluate__epochs": 8} | fields
    config = tiny_config(None, **given)
    return [shown_epoch(config, number) for number in range(config.training_epochs)]


def test_without_more_epochs_of_training_each_labelled_epoch_is_shown_once() -> None:
    assert shown(evaluate__epochs=None) == [0, 1, 2]
    assert shown(evaluate__epochs=2) == [0, 1]


def test_labelled_epochs_are_shown_again_in_turn() -> None:
    assert shown() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_shuffled_passes_show_each_epoch_once_in_an_order_of_their_own() -> None:
    fields: dict[str, Any] = {
        "evaluate__epoch_reuse": "shuffled",
        "relabel__epochs": 20,
        "evaluate__epochs": 60,
    }
    numbers = shown(**fields)
    passes = [numbers[first : first + 20] for first in (0, 20, 40)]
    assert passes[0] == list(range(20))
    assert all(sorted(one) == list(range(20)) for one in passes)
    assert len({tuple(one) for one in passes}) == 3
    assert shown(**fields) == numbers
    assert shown(**fields, seed=1) != numbers


@pytest.mark.parametrize("labels", ["stored", "online"])
def test_students_of_every_row_but_full_see_the_epochs_that_are_labelled_again(
    copied: Callable[..., StageContext], labels: str
) -> None:
    context = copied("relabel", "evaluate", evaluate__epochs=7, relabel__labels=labels)
    run_until(context, "relabel")
    for name in ("condensed", "init", "random"):
        row = row_of(context, name, 0)
        first, again = row.epoch(1), row.epoch(4)
        assert torch.equal(first.logits, again.logits)
        assert np.array_equal(first.views.image, again.views.image)
    full = row_of(context, "full", 0)
    assert not np.array_equal(full.epoch(1).images, full.epoch(4).images)


def test_a_student_trains_on_as_many_epochs_as_are_asked_for(copied: Callable[..., StageContext]) -> None:
    context = copied("evaluate", evaluate__epochs=7, evaluate__rows=["condensed"], evaluate__seeds=1)
    run_until(context, "evaluate")
    (record,) = manifest_of(context, "evaluate").records
    assert len(record.meta["curves"]["loss"]) == 7


@pytest.mark.parametrize("name", ["condensed", "init"])
def test_rows_that_are_labelled_when_they_are_seen_have_labels_of_the_codec(
    copied: Callable[..., StageContext], name: str
) -> None:
    codec = "top2_q3"
    context = copied("relabel", "evaluate", relabel__codec=codec, relabel__labels="online")
    exact = copied("relabel", "evaluate", relabel__labels="online")
    for one in (context, exact):
        run_until(one, "relabel")
    ours, theirs = row_of(context, name, 0).epoch(1).logits, row_of(exact, name, 0).epoch(1).logits
    assert not torch.equal(ours, theirs)
    np.testing.assert_array_equal(ours, rounded_by(codec, theirs.numpy()).astype(np.float32))
