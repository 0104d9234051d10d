"""The order of work of the official programs: which images are optimised together, and on which rank."""

from __future__ import annotations

from collections.abc import Sequence

Slot = tuple[int, int]
"""(class, ipc_id) of one condensed image."""


def official_slots(num_classes: int, ipc: int) -> list[Slot]:
    """All slots, class after class."""
    return [(label, ipc_id) for label in range(num_classes) for ipc_id in range(ipc)]


def official_rank_batches(slots: Sequence[Slot], batch_size: int, ranks: int) -> list[list[list[Slot]]]:
    """rank -> its batches, one after the other -> slots.

    A global batch of `batch_size` slots gives every rank batch_size // ranks of them; the last global batch
    fills the ranks from the first one on. `left_out` has the slots in no batch. Ranks are logical: they do
    not say where the work runs.

    Deviations:
        a rank without slots in the last global batch has one batch less; the official program fails there. If
        a batch is smaller than the number of ranks, the first ranks get one slot each.
    """
    share = max(1, batch_size // ranks)
    batches: list[list[list[Slot]]] = [[] for _ in range(ranks)]
    for first in range(0, len(slots), batch_size):
        whole = slots[first : first + batch_size]
        for rank in range(ranks):
            part = list(whole[rank * share : (rank + 1) * share])
            if part:
                batches[rank].append(part)
    return batches


def left_out(slots: Sequence[Slot], batch_size: int, ranks: int) -> list[list[Slot]]:
    """The slots that the official program never makes, in batches of their own.

    If the batch size is not a multiple of the ranks, the rest of each global batch is in no rank's share.
    """
    share = max(1, batch_size // ranks)
    made = {
        slot for rank in official_rank_batches(slots, batch_size, ranks) for part in rank for slot in part
    }
    missing = [slot for slot in slots if slot not in made]
    return [missing[first : first + share] for first in range(0, len(missing), share)]
