from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edc_ray.core.official_order import left_out, official_rank_batches, official_slots


@given(
    num_classes=st.integers(1, 7),
    ipc=st.integers(1, 6),
    ranks=st.integers(1, 4),
    more=st.integers(0, 9),
)
def test_every_slot_is_in_one_batch(num_classes: int, ipc: int, ranks: int, more: int) -> None:
    slots = official_slots(num_classes, ipc)
    of_ranks = official_rank_batches(slots, ranks + more, ranks)
    rest = left_out(slots, ranks + more, ranks)
    everything = [slot for batches in [*of_ranks, rest] for batch in batches for slot in batch]
    assert sorted(everything) == slots
    assert all(
        0 < len(batch) <= (ranks + more) // ranks for batches in [*of_ranks, rest] for batch in batches
    )


def test_nothing_is_left_out_where_the_ranks_divide_the_batch() -> None:
    assert left_out(official_slots(10, 3), 8, 4) == []


def test_a_batch_smaller_than_the_number_of_ranks_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 3 cannot be shared by 4 ranks"):
        official_rank_batches(official_slots(2, 2), 3, 4)
