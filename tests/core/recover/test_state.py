from __future__ import annotations

import pytest
import torch

from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.recover.state import IterationReport, LoopState


def _used() -> LoopState:
    state = LoopState.start(torch.ones(1, 3, 2, 2))
    state.adam_step = state.iteration = state.observer_counter = 7
    state.exp_avg += 1
    state.ema_images = torch.ones(1, 3, 2, 2)
    state.estimates = {"a": {"0": LayerStatistics(torch.ones(1), torch.ones(1))}}
    return state


def test_chain_keeps_estimates_and_turn_and_nothing_else() -> None:
    fresh = _used().next_batch(torch.zeros(2, 3, 2, 2), carry="chain")
    assert fresh.observer_counter == 7
    assert list(fresh.estimates) == ["a"]
    assert (fresh.iteration, fresh.adam_step, fresh.ema_images) == (0, 0, None)
    assert not fresh.exp_avg.any()


def test_reset_keeps_nothing() -> None:
    fresh = _used().next_batch(torch.zeros(2, 3, 2, 2))
    assert (fresh.observer_counter, fresh.estimates, fresh.iteration) == (0, {}, 0)
    with pytest.raises(ValueError, match="unknown carry"):
        fresh.next_batch(torch.zeros(1), carry="keep")  # pyright: ignore[reportArgumentType]


def test_start_copies_its_images() -> None:
    images = torch.zeros(1, 3, 2, 2)
    LoopState.start(images).images.add_(1)
    assert not images.any()


def test_a_copy_shares_nothing_that_the_loop_changes() -> None:
    state = LoopState.start(torch.zeros(1, 3, 2, 2))
    copy = state.copy()
    for changed in (copy.images, copy.exp_avg, copy.exp_avg_sq):
        changed.add_(1)
    copy.estimates["a"], copy.gradient_scales["a"] = {}, torch.ones(())
    assert not any(each.any() for each in (state.images, state.exp_avg, state.exp_avg_sq))
    assert (state.estimates, state.gradient_scales) == ({}, {})


def test_a_report_reads_the_device_once_and_only_when_asked() -> None:
    values = torch.tensor([6.0, 1.0, 2.0, 3.0])
    report = IterationReport(4, "a", 0.1, torch.zeros(1), ("cross_entropy", "matching", "tv_l2"), values)
    values[0] = 7.0  # not read so far
    assert (report.loss, report.cross_entropy, report.matching_loss) == (7.0, 1.0, 2.0)
    assert (report.flatness_loss, dict(report.pixel_terms)) == (0.0, {"tv_l2": 3.0})
    values[0] = 8.0
    assert report.loss == 7.0
