"""Which images the official programs optimise together, rank by rank."""

from __future__ import annotations

from typing import Any

import pytest

from edc_ray.core.recover.official_order import left_out, official_rank_batches, official_slots
from tests.goldens.files import load_golden

FILE = "n_batch_order.json"


def cases() -> list[dict[str, Any]]:
    return load_golden(FILE)


def ours(case: dict[str, Any]) -> list[list[list[tuple[int, int]]]]:
    slots = official_slots(case["n_classes"], case["ipc"])
    return official_rank_batches(slots, case["batch_size"], case["n_gpus"])


@pytest.mark.parametrize("number", range(len(cases())))
def test_batches_of_every_rank_equal_the_official_ones(number: int) -> None:
    case = cases()[number]
    theirs: list[Any] = [[] for _ in range(case["n_gpus"])]
    for rank in case["per_gpu"]:
        theirs[rank["gpu"]] = [
            list(zip(batch["targets"], batch["ipc_ids"], strict=True)) for batch in rank["batches"]
        ]
    if case["batch_size"] < case["n_gpus"]:  # the official program makes nothing; ours continues
        assert not any(theirs)
    else:
        assert ours(case) == theirs


@pytest.mark.parametrize("number", range(len(cases())))
def test_no_image_is_left_out_for_good(number: int) -> None:
    """The official programs drop slots in some of these cases; ours get batches of their own."""
    case = cases()[number]
    slots = official_slots(case["n_classes"], case["ipc"])
    rest = left_out(slots, case["batch_size"], case["n_gpus"])
    made = [slot for rank in ours(case) for batch in rank for slot in batch]
    if case["batch_size"] >= case["n_gpus"]:
        assert len(made) == case["n_unique"]
    assert sorted(made + [slot for batch in rest for slot in batch]) == slots
