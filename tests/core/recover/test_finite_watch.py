from __future__ import annotations

import pytest
import torch

from edc_ray.core.recover.finite_watch import FiniteWatch, Iteration
from edc_ray.errors import NumericalError


def _iteration(number: int, term: float = 1.0, flatness: float = 0.0) -> Iteration:
    terms = {"cross_entropy": torch.tensor(term), "flatness": torch.tensor(flatness)}
    return Iteration(number, "a", torch.tensor(term + flatness), terms, torch.zeros(()), None, ())  # pyright: ignore


def test_the_first_bad_iteration_is_named_however_late_the_look() -> None:
    watch = FiniteWatch(torch.zeros(1))
    watch._interval = 100
    for number, term in enumerate([1.0, 2.0, float("nan"), float("inf")]):
        watch.note(_iteration(number, term))
    with pytest.raises(NumericalError, match="the logits at iteration 2, observer 'a'"):
        watch.check()


def test_a_bad_term_is_named() -> None:
    watch = FiniteWatch(torch.zeros(1))
    with pytest.raises(NumericalError, match="the term 'flatness' at iteration 3"):
        watch.note(_iteration(3, flatness=float("inf")))


def test_finite_iterations_pass() -> None:
    watch = FiniteWatch(torch.zeros(1))
    watch.note(_iteration(0))
    watch.check()


def test_where_the_device_is_not_waited_for_a_bad_iteration_shows_an_interval_later() -> None:
    watch = FiniteWatch(torch.zeros(1))
    watch._interval, watch._waits = 2, False
    for number, term in enumerate([1.0, float("nan"), 1.0]):
        watch.note(_iteration(number, term))
    with pytest.raises(NumericalError, match="the logits at iteration 1"):
        watch.note(_iteration(3))


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_the_end_looks_at_what_was_asked_for_and_at_what_was_not(bad: int) -> None:
    watch = FiniteWatch(torch.zeros(1))
    watch._interval, watch._waits = 2, False
    for number in range(3):
        watch.note(_iteration(number, float("inf") if number == bad else 1.0))
    with pytest.raises(NumericalError, match=f"iteration {bad}"):
        watch.check()
    watch.check()
