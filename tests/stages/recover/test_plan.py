"""Units of recover: every order makes every image once, and growing keeps existing images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edc_ray.core.recover.official_order import official_rank_batches, official_slots
from edc_ray.stages.pipeline import STAGES, run_pipeline
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.fingerprint import stage_fingerprint
from tests.stages.tiny_runs import (
    AFTER,
    image_hashes,
    manifest_of,
    recovered,
    run_until,
    tiny_context,
    units_of,
)

Copied = Callable[..., StageContext]
OFFICIAL: dict[str, Any] = {
    "recover__order": "official", "recover__carry": "chain", "recover__virtual_ranks": 2,
    "recover__batch_size": 3,
}  # fmt: skip


def _slots(context: StageContext) -> list[tuple[int, int]]:
    return [
        (label, ipc_id)
        for unit in units_of(context, "recover")
        for batch in unit.work["batches"]
        for label, ipc_id in batch
    ]


@pytest.mark.parametrize(
    ("prior", "fields"),
    [((), {}), (("init",), {"init__kind": "real"}), (("init",), {"init__kind": "noise"})],
    ids=["mosaic", "real", "noise"],
)
def test_raising_ipc_leaves_the_earlier_images_alone_and_reuses_their_units(
    copied: Copied, prior: tuple[Any, ...], fields: dict[str, Any]
) -> None:
    context = copied(*prior, *AFTER, **fields)
    run_until(context, "recover")
    before = image_hashes(context)
    root = context.store.url.rsplit("/", 1)[0]
    more = tiny_context(root, ipc=4, **fields)
    reports = {report.stage: report for report in run_until(more, "recover")}
    assert (reports["init"].units_done, reports["init"].units_reused) == (2, 2)
    assert (reports["recover"].units_done, reports["recover"].units_reused) == (3, 3)
    after = image_hashes(more)
    assert len(after) == 12
    assert {slot: after[slot] for slot in before} == before
    assert manifest_of(more, "recover").meta["ipc"] == 4


@pytest.mark.parametrize(
    ("ranks", "batch_size", "ipc"), [(1, 100, 2), (2, 3, 2), (4, 6, 3), (5, 4, 3), (3, 2, 1), (8, 5, 5)]
)
def test_no_slot_is_lost_or_made_twice_in_the_official_order(
    copied: Copied, ranks: int, batch_size: int, ipc: int
) -> None:
    order = OFFICIAL | {"recover__virtual_ranks": ranks, "recover__batch_size": batch_size}
    context = copied("init", *AFTER, ipc=ipc, init__kind="noise", **order)
    run_pipeline(context, ["init"])
    wanted = [(label, ipc_id) for label in range(3) for ipc_id in range(ipc)]
    assert sorted(_slots(context)) == wanted
    slots, official = official_slots(3, ipc), official_rank_batches(wanted, batch_size, ranks)
    of_ranks = [batches for batches in official if batches]
    units = [
        [[(label, ipc_id) for label, ipc_id in batch] for batch in unit.work["batches"]]
        for unit in units_of(context, "recover")
    ]
    assert (slots, units[: len(of_ranks)]) == (wanted, of_ranks)
    # The slots that the official program leaves out are one more chain.
    assert len(units) - len(of_ranks) == bool(batch_size > ranks and batch_size % ranks)


def test_a_batch_that_does_not_divide_by_the_ranks_makes_every_image(copied: Copied) -> None:
    context = recovered(copied, **OFFICIAL)
    assert sorted(image_hashes(context)) == [(label, ipc_id) for label in range(3) for ipc_id in range(2)]
    units = [record.unit for record in manifest_of(context, "recover").records]
    assert units == ["rank-000", "rank-001", "rank-002"]


def test_ipc_major_puts_one_image_of_each_of_many_classes_in_a_batch(copied: Copied) -> None:
    context = copied(*AFTER, recover__order="ipc_major", recover__batch_size=2)
    batches = [unit.work["batches"] for unit in units_of(context, "recover")]
    assert batches == [[[[0, 0], [1, 0]]], [[[2, 0]]], [[[0, 1], [1, 1]]], [[[2, 1]]]]
    run_pipeline(context, ["recover"])
    assert sorted(image_hashes(context)) == sorted(_slots(context))


def test_ipc_major_images_do_not_depend_on_ipc(copied: Copied) -> None:
    fields = {"recover__order": "ipc_major", "recover__batch_size": 2}
    few = recovered(copied, **fields)
    root = few.store.url.rsplit("/", 1)[0]
    more = tiny_context(root, ipc=3, **fields)
    reports = {report.stage: report for report in run_until(more, "recover")}
    assert (reports["recover"].units_done, reports["recover"].units_reused) == (2, 4)


def test_the_official_order_depends_on_ipc_and_blocks_do_not(copied: Copied) -> None:
    def print_of(**fields: Any) -> str:
        return stage_fingerprint(copied("init", *AFTER, **fields).config, STAGES["recover"])

    assert print_of(**OFFICIAL) != print_of(ipc=4, **OFFICIAL)
    assert print_of() == print_of(ipc=4)
