"""recover with too little memory for a batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from edc_ray.core.recover.captured import CapturedRecover
from edc_ray.core.recover.loop import recover_images
from edc_ray.core.recover.pixel_kernels import TORCH_PIXEL_KERNELS
from edc_ray.core.recover.state import LoopState
from edc_ray.errors import UnitsFailedError
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.recover import stage as recover
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.image_shards import read_stage_images
from tests.stages.little_memory import OUT_OF_MEMORY, LittleMemory
from tests.stages.tiny_runs import AFTER, manifest_of, recovered

Copied = Callable[..., StageContext]
# Two batches of a unit, the second going on with the estimates of the first.
CHAIN: dict[str, Any] = {
    "recover__order": "official", "recover__carry": "chain", "recover__virtual_ranks": 1,
    "recover__batch_size": 3, "recover__iterations": 6,
}  # fmt: skip


def _assert_same_images(one: StageContext, other: StageContext) -> None:
    images = [read_stage_images(each, "recover").images.astype(int) for each in (one, other)]
    # Parts round differently, which may move a pixel over the border of a grey level.
    assert np.abs(images[0] - images[1]).max() <= 1
    assert (images[0] != images[1]).mean() < 0.01


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("category_aware", ["global", "local"])
def test_images_made_in_parts_are_those_of_whole_batches_and_records_say_so(
    copied: Copied, backward: bool, category_aware: str
) -> None:
    fields = {"recover__classes_per_unit": 2, "recover__category_aware": category_aware}
    whole = recovered(copied, **fields)
    parts = copied(*AFTER, **fields)
    told = "recover: memory was too little for 4 images at once, so an observer now sees 2 at a time"
    with LittleMemory(2, backward=backward) as memory, pytest.warns(UserWarning, match=told) as warned:
        run_pipeline(parts, ["recover"])
    _assert_same_images(whole, parts)
    # Units of 4 and of 2 images: the process fails once and tells it once.
    assert memory.failures == len(warned) == 1
    assert [record.meta["images_at_once"] for record in manifest_of(parts, "recover").records] == [2, 2]
    assert not any("images_at_once" in record.meta for record in manifest_of(whole, "recover").records)


def test_finished_batches_are_kept_and_only_the_one_that_failed_begins_again(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = recovered(copied, **CHAIN), list[tuple[int, int | None]]()
    ends = list[LoopState]()

    def failing(state: LoopState, labels: Any, observers: Any, *rest: Any, **named: Any) -> LoopState:
        number = 0 if not ends else 1
        calls.append((number, observers[0].images_at_once))
        with LittleMemory(2 if number else 3) as memory:
            memory.room = 3
            real = named["draws"]

            def draws(iteration: int) -> Any:
                memory.room = 2 if number and iteration == 4 else 3  # in the midst of the second batch
                return real(iteration)

            ends.append(end := recover_images(state, labels, observers, *rest, **named | {"draws": draws}))
        return end

    monkeypatch.setattr(recover, "recover_images", failing)
    parts = copied(*AFTER, **CHAIN)
    with pytest.warns(UserWarning, match="too little for 3 images"):
        run_pipeline(parts, ["recover"])
    assert calls == [(0, None), (1, None), (1, 2)]
    _assert_same_images(whole, parts)
    mine, theirs = (manifest_of(each, "recover").records[0].meta for each in (parts, whole))
    assert mine["curves"] == theirs["curves"]  # of the first batch, from its beginning


def test_a_batch_that_fails_takes_its_recordings_with_it(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[CapturedRecover]] = []

    def new(device: torch.device) -> CapturedRecover:
        assert all(each() is None for each in made)
        captured = CapturedRecover(TORCH_PIXEL_KERNELS, lambda step, *_: step)
        made.append(weakref.ref(captured))
        return captured

    whole = recovered(copied, **CHAIN)
    context = copied(*AFTER, **CHAIN)
    context.config = context.config.model_copy(update={"compile": "auto"})
    monkeypatch.setattr(recover, "captured_recover_for", new)
    with LittleMemory(2), pytest.warns(UserWarning, match="so an observer now sees 2"):
        run_pipeline(context, ["recover"])
    # For the unit, and again after its first batch failed; the second batch uses it once more.
    assert len(made) == 2
    _assert_same_images(whole, context)


def test_an_image_that_does_not_fit_by_itself_is_an_error_that_names_the_fields(copied: Copied) -> None:
    context = copied(*AFTER)
    recover.load_observers(context)
    with LittleMemory(0), pytest.raises(UnitsFailedError) as caught:
        run_pipeline(context, ["recover"])
    told = str(caught.value)
    assert "recover: memory is too little for an observer, even for one image at a time" in told
    assert OUT_OF_MEMORY in told
    assert "lower recover.classes_per_unit and recover.ipc_per_unit" in told
