"""Budgets of launches: on a GPU their number is the time. They are counted here without one."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from bench_launches import COUNTS, LARGE, SMALL

# stage -> launches beyond the plain step: for each measured layer, and in all
BUDGETS = {
    "squeeze": (0, 1),
    "statistics": (2, 20),
    "recover": (3, 60),
    "relabel": (0, 1),
    "evaluate": (0, 30),
}


def _assert_within_budget(stage: str, name: str) -> None:
    counts, (each_layer, fixed) = COUNTS[stage](name), BUDGETS[stage]
    budget = counts["plain"] + each_layer * counts["layers"] + fixed
    assert counts["ours"] <= budget, f"{stage} {name}: {dict(counts)}"


def test_every_stage_has_a_budget() -> None:
    assert list(BUDGETS) == list(COUNTS)


@pytest.mark.parametrize("name", ["resnet18_small", "convnet_d1"])
@pytest.mark.parametrize("stage", COUNTS)
def test_a_stage_keeps_its_budget(stage: str, name: str) -> None:
    _assert_within_budget(stage, name)


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*LARGE, *SMALL])
@pytest.mark.parametrize("stage", COUNTS)
def test_a_stage_keeps_its_budget_with_every_observer(stage: str, name: str) -> None:
    _assert_within_budget(stage, name)
