"""Judging a network with too little memory for a batch of validation images."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest

from edc_ray.stages.evaluate import stage as evaluate
from edc_ray.stages.squeeze import stage as squeeze
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.training import judge
from tests.stages.little_memory import LittleMemory

Copied = Callable[..., StageContext]


def test_a_judgement_in_parts_is_that_of_whole_batches(copied: Copied) -> None:
    context = copied()
    network, val = context.observer("wrn_16_2"), context.data.val
    whole = judge(network, val, context, 16)
    with (
        LittleMemory(4) as memory,
        pytest.warns(UserWarning, match="^accuracy: memory was too little for 16"),
    ):
        parts = judge(network, val, context, 16)
    assert memory.sizes == [16, 8, 4, 4, 4, 4, 4, 4]
    assert (parts.top1, parts.per_class, parts.images) == (whole.top1, whole.per_class, whole.images)
    assert parts.ece == pytest.approx(whole.ece, abs=1e-5)


def test_records_of_trainings_say_in_which_parts_networks_were_judged(copied: Copied) -> None:
    context = copied()
    with LittleMemory(4), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge(context.observer("wrn_16_2"), context.data.val, context, 16)
    for stage in (squeeze.STAGE, evaluate.STAGE):
        meta = stage.run_unit(context, stage.plan(context)[0]).meta
        assert meta["images_at_once"] == 4
