from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edc_ray.core.recover.official_order import left_out, official_rank_batches, official_slots


@given(
    num_classes=st.integers(1, 7),
    ipc=st.integers(1, 6),
    ranks=st.integers(1, 5),
    batch_size=st.integers(1, 12),
)
def test_every_slot_is_in_one_batch_of_no_more_than_its_share(
    num_classes: int, ipc: int, ranks: int, batch_size: int
) -> None:
    slots = official_slots(num_classes, ipc)
    chains = [*official_rank_batches(slots, batch_size, ranks), left_out(slots, batch_size, ranks)]
    assert sorted(slot for batches in chains for batch in batches for slot in batch) == slots
    sizes = {len(batch) for batches in chains for batch in batches}
    assert sizes <= set(range(1, max(1, batch_size // ranks) + 1))


def test_nothing_is_left_out_where_the_ranks_divide_the_batch() -> None:
    assert left_out(official_slots(10, 3), 8, 4) == []


def test_the_last_batch_fills_the_first_ranks_first() -> None:
    ranks = official_rank_batches(official_slots(1, 9), 6, 3)
    assert [[len(batch) for batch in batches] for batches in ranks] == [[2, 2], [2, 1], [2]]


def test_of_a_batch_smaller_than_the_ranks_the_first_ranks_get_one_slot_each() -> None:
    ranks = official_rank_batches(official_slots(2, 2), 3, 4)
    assert [[len(batch) for batch in batches] for batches in ranks] == [[1, 1], [1], [1], []]
