"""Labels that several students share."""

from __future__ import annotations

import numpy as np

from edc_ray.stages.labelled_epochs import LabelledEpochs


class Labeller:
    """Counts how often it is asked; each answer takes 8 bytes."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def of(self, epoch: int):
        def label() -> np.ndarray:
            self.asked.append(epoch)
            return np.full(1, float(epoch))

        return label


def test_an_epoch_is_labelled_once_for_all_students_of_a_row() -> None:
    kept, labeller = LabelledEpochs(), Labeller()
    for _ in range(3):
        for epoch in range(4):
            assert kept.get("init", epoch, labeller.of(epoch)).tolist() == [epoch]
    assert labeller.asked == [0, 1, 2, 3]


def test_what_does_not_fit_is_labelled_again_and_what_came_first_stays() -> None:
    kept, labeller = LabelledEpochs(limit=16), Labeller()
    for _ in range(2):
        for epoch in range(4):
            assert kept.get("init", epoch, labeller.of(epoch)).tolist() == [epoch]
    assert labeller.asked == [0, 1, 2, 3, 2, 3]


def test_another_row_begins_anew() -> None:
    kept, labeller = LabelledEpochs(limit=8), Labeller()
    for row in ("init", "condensed", "init"):
        kept.get(row, 0, labeller.of(0))
    assert labeller.asked == [0, 0, 0]
