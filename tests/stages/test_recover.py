"""recover: blocks, the official order, carried state, local targets, and images kept as they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from edc_ray.core.official_order import official_rank_batches, official_slots
from edc_ray.core.pixels import denormalise, to_uint8
from edc_ray.core.recover_loop import recover_images
from edc_ray.core.recover_state import LoopState
from edc_ray.core.seeding import draws
from edc_ray.errors import ConfigError
from edc_ray.kernels.compiled import kernels_for
from edc_ray.stages import recover
from edc_ray.stages.collect_statistics import load_targets
from edc_ray.stages.context import StageContext
from edc_ray.stages.image_shards import pixel_hash, read_stage_images
from edc_ray.stages.init_images import noise_images
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.training import mean_and_std, normalised
from tests.stages.tiny_runs import image_hashes, manifest_of, run_until, tiny_context, units_of

Copied = Callable[..., StageContext]
AFTER = ("recover", "relabel", "evaluate")
OFFICIAL: dict[str, Any] = {
    "recover__order": "official", "recover__carry": "chain", "recover__virtual_ranks": 2,
    "recover__batch_size": 3,
}  # fmt: skip


def _recovered(copied: Copied, **fields: Any) -> StageContext:
    context = copied(*AFTER, **fields)
    run_pipeline(context, ["recover"])
    return context


def _slots(context: StageContext) -> list[tuple[int, int]]:
    return [
        (label, ipc_id)
        for unit in units_of(context, "recover")
        for batch in unit.work["batches"]
        for label, ipc_id in batch
    ]


def test_recovery_changes_every_image_and_lowers_the_loss(copied: Copied, finished: StageContext) -> None:
    start, end = image_hashes(finished, "init"), image_hashes(finished)
    assert start.keys() == end.keys()
    assert all(start[slot] != end[slot] for slot in start)
    record = manifest_of(_recovered(copied, recover__iterations=30), "recover").records[0]
    losses = record.meta["curves"]["loss"]
    # A point is a mean over one turn of both observers, whose losses differ in scale.
    assert losses[-1] < 0.8 * losses[0]


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
    # What the official program leaves out is one more chain.
    assert len(units) - len(of_ranks) == bool(batch_size > ranks and batch_size % ranks)


def test_a_batch_that_does_not_divide_by_the_ranks_makes_every_image(copied: Copied) -> None:
    context = _recovered(copied, **OFFICIAL)
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
    few = _recovered(copied, **fields)
    root = few.store.url.rsplit("/", 1)[0]
    more = tiny_context(root, ipc=3, **fields)
    reports = {report.stage: report for report in run_until(more, "recover")}
    assert (reports["recover"].units_done, reports["recover"].units_reused) == (2, 4)


def test_pixel_terms_and_views_of_the_predecessors_reach_the_loop(copied: Copied) -> None:
    fields = {
        "crop_curriculum": "cosine", "crop_milestone": 0.5, "jitter": 2, "tv_l1_weight": 0.1,
        "tv_l2_weight": 0.2, "l2_weight": 0.3, "diversity_weight": 0.4, "diversity_temperature": 3.0,
    }  # fmt: skip
    context = _recovered(copied, **{f"recover__{name}": value for name, value in fields.items()})
    settings = recover.settings_of(context)
    assert {name: getattr(settings, name) for name in fields} == fields
    curves = manifest_of(context, "recover").records[0].meta["curves"]
    assert {"tv_l1", "tv_l2", "l2", "diversity"} <= set(curves)
    assert all(value > 0 for value in curves["tv_l1"])


@pytest.mark.parametrize("start", ["zero", "first"])
def test_a_chain_carries_state_from_batch_to_batch_and_reset_does_not(copied: Copied, start: str) -> None:
    fields = OFFICIAL | {"recover__estimate_start": start}
    chain, again = (_recovered(copied, **fields) for _ in range(2))
    reset = _recovered(copied, **fields | {"recover__carry": "reset"})
    assert image_hashes(chain) == image_hashes(again)
    batches = [unit.work["batches"] for unit in units_of(chain, "recover")]
    first = {(label, ipc_id) for rank in batches for label, ipc_id in rank[0]}
    chained, fresh = image_hashes(chain), image_hashes(reset)
    assert all(chained[slot] == fresh[slot] for slot in first)
    assert all(chained[slot] != fresh[slot] for slot in chained.keys() - first)


def test_a_chain_equals_the_loop_driven_by_hand(copied: Copied) -> None:
    context = _recovered(copied, **OFFICIAL)
    unit = units_of(context, "recover")[1]
    mean, std = mean_and_std(context)
    init, stored = read_stage_images(context, "init"), image_hashes(context)
    observers = recover.load_observers(context)
    targets = {observer.name: load_targets(context, observer.name) for observer in observers}
    state = None
    for batch in unit.work["batches"]:
        places = [2 * label + ipc_id for label, ipc_id in batch]
        start = normalised(init.images[places], context)
        state = LoopState.start(start) if state is None else state.next_batch(start, "chain")
        state = recover_images(
            state,
            torch.tensor([label for label, _ in batch]),
            observers,
            targets,
            recover.settings_of(context),
            mean=mean,
            std=std,
            draws=lambda iteration, ends=(*batch[0], *batch[-1]): draws(0, "recover", *ends, iteration),
        )
        pixels = to_uint8(denormalise(state.images, mean, std), "round").numpy()
        assert [pixel_hash(image) for image in pixels] == [stored[tuple(slot)] for slot in batch]
    assert state is not None
    # Three iterations a batch: the turn of the observers goes on.
    assert state.observer_counter == 3 * len(unit.work["batches"]) == 6


def test_the_official_order_depends_on_ipc_and_blocks_do_not(copied: Copied) -> None:
    def print_of(**fields: Any) -> str:
        return copied("init", *AFTER, **fields).config.fingerprint("recover")

    assert print_of(**OFFICIAL) != print_of(ipc=4, **OFFICIAL)
    assert print_of() == print_of(ipc=4)


def test_local_targets_are_statistics_of_real_images_of_the_batchs_classes(
    copied: Copied, finished: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    real = recover.local_class_targets

    def spying(observers: Any, images: torch.Tensor, patch_side: int) -> Any:
        seen.append(images)
        return real(observers, images, patch_side)

    monkeypatch.setattr(recover, "local_class_targets", spying)
    local = _recovered(copied, recover__category_aware="local", recover__local_images_per_slot=4)
    train = local.data.train
    assert len(seen) == 3
    for label, images in enumerate(seen):
        members = normalised(train.fetch(train.class_indices(label)), local)
        assert images.shape == (8, 1, 8, 8)
        for image in images:
            assert (members == image).flatten(1).all(1).any()
    assert image_hashes(local) == image_hashes(
        _recovered(copied, recover__category_aware="local", recover__local_images_per_slot=4)
    )
    assert image_hashes(local) != image_hashes(finished)


def test_half_of_the_real_images_of_local_mode_are_mirrored_where_that_keeps_the_class(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(recover, "local_class_targets", lambda _, images, side: seen.append(images))
    context = copied(*AFTER, recover__category_aware="local", recover__local_images_per_slot=100)
    batch = [(1, 0), (1, 1)]
    recover._local_targets(context, [], batch)
    spec = context.config.dataset.model_copy(update={"flip": True})
    context.config = context.config.model_copy(update={"dataset": spec})
    recover._local_targets(context, [], batch)
    plain, mirrored = seen
    flipped = (mirrored == plain.flip(3)).flatten(1).all(1)
    assert (flipped | (mirrored == plain).flatten(1).all(1)).all()
    # 200 draws: four standard deviations are 28.
    assert all(72 / 2 < int(part.sum()) < 128 / 2 for part in flipped.chunk(2))


@pytest.mark.parametrize(("order", "expected"), [("official", [7, 7, 0, 0, 0, 0]), ("blocks", [7, 7, 7])])
def test_only_rank_0_of_the_official_order_verifies_before_the_end(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, order: str, expected: list[int]
) -> None:
    every, final = [], []

    def spying(*args: Any, **named: Any) -> LoopState:
        every.append(args[4].verify_every)
        final.append(args[4].verify_final)
        return recover_images(*args, **named)

    monkeypatch.setattr(recover, "recover_images", spying)
    context = _recovered(copied, **OFFICIAL | {"recover__order": order}, recover__verify_every=7)
    assert len(every) == sum(len(unit.work["batches"]) for unit in units_of(context, "recover"))
    assert sorted(every, reverse=True) == expected
    assert set(final) == {context.config.recover.verify_final}


def test_without_category_awareness_only_global_statistics_are_matched(
    copied: Copied, finished: StageContext
) -> None:
    none = _recovered(copied, recover__category_aware="none")
    weightless = _recovered(copied, recover__class_weight=0.0)
    assert image_hashes(none) == image_hashes(weightless)
    assert image_hashes(none) != image_hashes(finished)


def test_images_stay_as_they_are_where_recover_is_disabled(copied: Copied) -> None:
    context = copied("statistics", *AFTER, recover__enabled=False)
    reports = {report.stage: report for report in run_pipeline(context)}
    assert image_hashes(context) == image_hashes(context, "init")
    assert (reports["statistics"].units_done, reports["evaluate"].units_done) == (0, 10)
    assert manifest_of(context, "recover").meta["matching_loss"] is None
    assert len(manifest_of(context, "evaluate").meta["results"]) == 10


def test_noise_starts_recover_as_it_is_and_not_as_its_picture(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[torch.Tensor] = []

    def spying(state: LoopState, *rest: Any, **named: Any) -> LoopState:
        starts.append(state.images.clone())
        return recover_images(state, *rest, **named)

    monkeypatch.setattr(recover, "recover_images", spying)
    context = copied("init", *AFTER, init__kind="noise")
    run_pipeline(context, ["init", "recover"])
    expected = [noise_images(context, [(label, 0), (label, 1)]) for label in range(3)]
    assert all(torch.equal(start, noise) for start, noise in zip(starts, expected, strict=True))
    assert len(image_hashes(context)) == 6


def test_observers_and_layers_of_recover_can_be_chosen(copied: Copied) -> None:
    context = copied(*AFTER, "statistics", recover__observers=["wrn_16_2"], recover__layers=["bn"])
    (observer,) = recover.load_observers(context)
    assert observer.name == "wrn_16_2"
    assert set(observer.taps.kinds.values()) == {"bn"}
    run_pipeline(context, ["statistics", "recover"])
    curves = manifest_of(context, "recover").records[0].meta["curves"]
    assert [name for name in curves if "/" in name] == ["matching_loss/wrn_16_2"]


def test_an_observer_without_layers_to_match_is_refused(copied: Copied) -> None:
    with pytest.raises(ConfigError, match=r"cannot match observer 'convnet_d1': it has no layer"):
        copied(*AFTER, recover__observers=["convnet_d1"], recover__layers=["bn"])


def test_a_digit_is_never_mirrored_and_other_images_are(copied: Copied) -> None:
    context = copied(*AFTER)
    assert not context.config.dataset.flip
    assert recover.settings_of(context).flip_probability == 0.0
    spec = context.config.dataset.model_copy(update={"flip": True})
    context.config = context.config.model_copy(update={"dataset": spec})
    assert recover.settings_of(context).flip_probability == 0.5


def test_matching_losses_of_the_manifest_are_means_over_units_of_one_turn(finished: StageContext) -> None:
    manifest = manifest_of(finished, "recover")
    for end, place in (("first", 0), ("last", -1)):
        ends = [
            curve[place]
            for record in manifest.records
            for name, curve in record.meta["curves"].items()
            if name.startswith("matching_loss/")
        ]
        assert len(ends) == 6  # three units, two observers
        assert manifest.meta["matching_loss"][end] == pytest.approx(sum(ends) / 6, rel=1e-5)


def test_a_unit_says_which_kernels_made_it(finished: StageContext) -> None:
    kernels = kernels_for(finished.device).name
    assert {record.meta["kernels"] for record in manifest_of(finished, "recover").records} == {kernels}


def test_curves_have_a_bounded_number_of_points(copied: Copied) -> None:
    context = _recovered(copied, recover__iterations=120, recover__classes_per_unit=3)
    (record,) = manifest_of(context, "recover").records
    assert {len(values) for values in record.meta["curves"].values()} <= set(range(30, 61))


@pytest.mark.parametrize("variance", ["pooled", "official"])
def test_the_definition_of_the_targets_reaches_the_pixels(
    copied: Copied, finished: StageContext, variance: str
) -> None:
    hashes = image_hashes(_recovered(copied, recover__variance=variance))
    assert (hashes == image_hashes(finished)) == (variance == "pooled")


def test_a_units_draws_are_keyed_by_its_slots_and_not_by_its_number(finished: StageContext) -> None:
    batch = [(1, 0), (1, 1)]
    draw = partial(recover._draws_of, 0, batch)
    assert draw(3).uniform(4).tolist() == draw(3).uniform(4).tolist()
    assert draw(3).uniform(4).tolist() != draw(4).uniform(4).tolist()
    assert draw(3).uniform(4).tolist() != recover._draws_of(0, [(2, 0), (2, 1)], 3).uniform(4).tolist()
