"""recover: blocks, the official order, carried state, local targets, and images kept as they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from edc_ray.core.pixels import denormalise, to_uint8
from edc_ray.core.recover.loop import recover_images
from edc_ray.core.recover.state import LoopState
from edc_ray.core.seeding import draws
from edc_ray.errors import ConfigError
from edc_ray.kernels.cpu.statistics import kernels_for
from edc_ray.stages.init.stage import noise_images
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.recover import stage as recover
from edc_ray.stages.recover.plan import settings_of_unit
from edc_ray.stages.recover.stage import load_targets
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.image_shards import pixel_hash, read_stage_images
from edc_ray.stages.units.training import mean_and_std, normalised
from tests.stages.tiny_runs import AFTER, image_hashes, manifest_of, recovered, units_of

Copied = Callable[..., StageContext]
OFFICIAL: dict[str, Any] = {
    "recover__order": "official", "recover__carry": "chain", "recover__virtual_ranks": 2,
    "recover__batch_size": 3,
}  # fmt: skip


def test_recovery_changes_every_image_and_lowers_the_loss(copied: Copied, finished: StageContext) -> None:
    start, end = image_hashes(finished, "init"), image_hashes(finished)
    assert start.keys() == end.keys()
    assert all(start[slot] != end[slot] for slot in start)
    record = manifest_of(recovered(copied, recover__iterations=30), "recover").records[0]
    losses = record.meta["curves"]["loss"]
    # A point is a mean over one turn of both observers, whose losses differ in scale.
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("start", ["zero", "first"])
def test_a_chain_carries_state_from_batch_to_batch_and_reset_does_not(copied: Copied, start: str) -> None:
    fields = OFFICIAL | {"recover__estimate_start": start}
    chain, again = (recovered(copied, **fields) for _ in range(2))
    reset = recovered(copied, **fields | {"recover__carry": "reset"})
    assert image_hashes(chain) == image_hashes(again)
    batches = [unit.work["batches"] for unit in units_of(chain, "recover")]
    first = {(label, ipc_id) for rank in batches for label, ipc_id in rank[0]}
    chained, fresh = image_hashes(chain), image_hashes(reset)
    assert all(chained[slot] == fresh[slot] for slot in first)
    assert all(chained[slot] != fresh[slot] for slot in chained.keys() - first)


def test_a_chain_equals_the_loop_driven_by_hand(copied: Copied) -> None:
    context = recovered(copied, **OFFICIAL)
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
            settings_of_unit(context.config, unit),
            patch_side=context.config.statistics.patch_side,
            mean=mean,
            std=std,
            draws=lambda iteration, ends=(*batch[0], *batch[-1]): draws(0, "recover", *ends, iteration),
        )
        pixels = to_uint8(denormalise(state.images, mean, std), "round").numpy()
        assert [pixel_hash(image) for image in pixels] == [stored[tuple(slot)] for slot in batch]
    assert state is not None
    # Three iterations a batch: the turn of the observers continues.
    assert state.observer_counter == 3 * len(unit.work["batches"]) == 6


def test_local_targets_are_statistics_of_real_images_of_the_batchs_classes(
    copied: Copied, finished: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    real = recover.local_class_targets

    def spying(observers: Any, images: torch.Tensor, patch_side: int) -> Any:
        seen.append(images)
        return real(observers, images, patch_side)

    monkeypatch.setattr(recover, "local_class_targets", spying)
    local = recovered(copied, recover__category_aware="local", recover__local_images_per_slot=4)
    train = local.data.train
    assert len(seen) == 3
    for label, images in enumerate(seen):
        members = normalised(train.fetch(train.class_indices(label)), local)
        assert images.shape == (8, 1, 8, 8)
        for image in images:
            assert (members == image).flatten(1).all(1).any()
    assert image_hashes(local) == image_hashes(
        recovered(copied, recover__category_aware="local", recover__local_images_per_slot=4)
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


def test_without_category_awareness_only_global_statistics_are_matched(
    copied: Copied, finished: StageContext
) -> None:
    none = recovered(copied, recover__category_aware="none")
    weightless = recovered(copied, recover__class_weight=0.0)
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


def test_a_unit_says_which_kernels_made_it(finished: StageContext) -> None:
    kernels = kernels_for(finished.device).name
    assert {record.meta["kernels"] for record in manifest_of(finished, "recover").records} == {kernels}


@pytest.mark.parametrize("variance", ["pooled", "official"])
def test_the_definition_of_the_targets_reaches_the_pixels(
    copied: Copied, finished: StageContext, variance: str
) -> None:
    hashes = image_hashes(recovered(copied, recover__variance=variance))
    assert (hashes == image_hashes(finished)) == (variance == "pooled")


def test_a_units_draws_are_keyed_by_its_slots_and_not_by_its_number(finished: StageContext) -> None:
    batch = [(1, 0), (1, 1)]
    draw = partial(recover._draws_of, 0, batch)
    assert draw(3).uniform(4).tolist() == draw(3).uniform(4).tolist()
    assert draw(3).uniform(4).tolist() != draw(4).uniform(4).tolist()
    assert draw(3).uniform(4).tolist() != recover._draws_of(0, [(2, 0), (2, 1)], 3).uniform(4).tolist()
