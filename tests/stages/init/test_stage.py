"""init: where recover starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from edc_ray.core.pixels import denormalise, normalise
from edc_ray.kernels.cpu.statistics import kernels_for
from edc_ray.stages.init import stage as init_images
from edc_ray.stages.init.stage import noise_images, real_choice
from edc_ray.stages.pipeline import STAGES, run_pipeline
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.fingerprint import stage_fingerprint
from edc_ray.stages.units.image_shards import read_stage_images, slot_hashes
from edc_ray.stages.units.training import mean_and_std
from tests.stages.tiny_runs import image_hashes, manifest_of, tiny_context, units_of

Copied = Callable[..., StageContext]
FROM_INIT = ("init", "recover", "relabel", "evaluate")


def _made(copied: Copied, **fields: Any) -> StageContext:
    context = copied(*FROM_INIT, **fields)
    run_pipeline(context, ["init"])
    return context


KINDS = {
    "mosaic": {},
    "real": {"init__kind": "real"},
    "real again": {"init__kind": "real", "init__replacement": True},
    "noise": {"init__kind": "noise"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ipc", [3, 5])
def test_raising_ipc_leaves_the_earlier_initial_images_alone(copied: Copied, kind: str, ipc: int) -> None:
    few, many = _made(copied, **KINDS[kind]), _made(copied, ipc=ipc, **KINDS[kind])
    before, after = image_hashes(few, "init"), image_hashes(many, "init")
    assert len(after) == 3 * ipc
    assert {slot: after[slot] for slot in before} == before


@pytest.mark.parametrize("kind", KINDS)
def test_initial_images_do_not_depend_on_how_work_is_cut(copied: Copied, kind: str) -> None:
    whole = _made(copied, init__classes_per_unit=9, init__ipc_per_unit=9, **KINDS[kind])
    single = _made(copied, init__classes_per_unit=1, init__ipc_per_unit=1, **KINDS[kind])
    assert (len(units_of(whole, "init")), len(units_of(single, "init"))) == (1, 6)
    assert image_hashes(whole, "init") == image_hashes(single, "init")


def test_every_slot_gets_an_image_of_its_own(finished: StageContext) -> None:
    assert len(set(image_hashes(finished, "init").values())) == 6


def test_real_images_are_training_images_of_the_class_and_do_not_repeat(copied: Copied) -> None:
    context = _made(copied, init__kind="real", ipc=12)
    train, rows = context.data.train, read_stage_images(context, "init")
    for label in range(3):
        mine = {image.tobytes() for image in rows.images[rows.labels == label]}
        assert mine == {image.tobytes() for image in train.fetch(train.class_indices(label))}


def test_real_images_with_replacement_may_outnumber_the_class(copied: Copied) -> None:
    context = copied(*FROM_INIT, init__kind="real", init__replacement=True, ipc=40)
    chosen = real_choice(context, 1)
    assert len(chosen) == 40
    assert set(chosen.tolist()) <= set(context.data.train.class_indices(1).tolist())
    assert len(set(chosen.tolist())) < 40


def test_ipc_is_part_of_the_fingerprint_of_rded_mosaics_only(copied: Copied) -> None:
    def print_of(**fields: Any) -> str:
        return units_of(copied(*FROM_INIT, **fields), "init")[0].fingerprint

    assert print_of(init__mosaic_order="rded") != print_of(init__mosaic_order="rded", ipc=4)
    assert print_of() == print_of(ipc=4)


def test_noise_is_standard_normal_and_keyed_by_its_slot(finished: StageContext) -> None:
    slots = [(label, ipc_id) for label in range(3) for ipc_id in range(50)]
    noise = noise_images(finished, slots)
    assert noise.dtype == torch.float32
    assert noise.shape == (150, 1, 8, 8)
    assert noise.mean().item() == pytest.approx(0, abs=0.05)
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(noise_images(finished, [slots[70]])[0], noise[70])


def test_stored_noise_is_the_noise_as_a_picture(copied: Copied) -> None:
    context = _made(copied, init__kind="noise")
    rows, (mean, std) = read_stage_images(context, "init"), mean_and_std(context)
    slots = list(zip(rows.labels.tolist(), rows.ipc_ids.tolist(), strict=True))
    picture = denormalise(noise_images(context, slots), mean, std) * 255
    assert np.abs(rows.images - picture.numpy()).max() <= 0.5 + 1e-3
    assert normalise(picture / 255, mean, std).shape == rows.images.shape


def test_only_mosaics_depend_on_the_observers(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    def prints(**fields: Any) -> list[str]:
        return [unit.fingerprint for unit in units_of(copied(*FROM_INIT, **fields), "init")]

    mosaic, real = prints(), prints(init__kind="real")
    monkeypatch.setattr(StageContext, "observer_digests", lambda self, names: dict.fromkeys(names, "other"))
    assert prints() != mosaic
    assert prints(init__kind="real") == real


def test_observers_that_score_crops_can_be_chosen(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[str] = set()
    real = StageContext.observer

    def spying(self: StageContext, name: str) -> Any:
        asked.add(name)
        return real(self, name)

    monkeypatch.setattr(StageContext, "observer", spying)
    context = _made(copied, init__observers=["wrn_16_2"])
    assert asked == {"wrn_16_2"}
    assert len(slot_hashes(context, "init")) == 6


def test_a_unit_of_mosaics_says_which_kernels_scored_its_crops(copied: Copied) -> None:
    context = _made(copied, **KINDS["mosaic"])
    kernels = kernels_for(context.device).name
    assert {record.meta["kernels"] for record in manifest_of(context, "init").records} == {kernels}


def test_the_seed_decides_the_images() -> None:
    hashes = []
    for seed in (0, 1):
        context = tiny_context(seed=seed, squeeze__observers=["convnet_d1"], init__kind="real")
        run_pipeline(context, ["squeeze", "init"])
        hashes.append(image_hashes(context, "init"))
    assert hashes[0] != hashes[1]


def test_mosaics_with_replacement_repeat_some_and_leave_out_others(copied: Copied) -> None:
    each, drawn = (
        _made(copied, ipc=8, init__replacement=replacement, init__images_per_class=12)
        for replacement in (False, True)
    )
    for label in range(3):
        made = {sha for (of, _), sha in image_hashes(each, "init").items() if of == label}
        loaded = {sha for (of, _), sha in image_hashes(drawn, "init").items() if of == label}
        assert loaded < made


def test_the_choice_among_mosaics_depends_on_how_many_there_are(copied: Copied) -> None:
    def fingerprint(**fields: Any) -> str:
        return stage_fingerprint(copied(*FROM_INIT, **fields).config, STAGES["init"])

    assert fingerprint() == fingerprint(ipc=9)
    assert fingerprint(init__replacement=True) != fingerprint(init__replacement=True, ipc=9)


def test_preferring_unused_images_uses_more_of_them(copied: Copied) -> None:
    def different(prefer: bool) -> int:
        chosen = real_choice(
            copied(*FROM_INIT, init__kind="real", init__replacement=True, init__prefer_unused=prefer, ipc=12),
            1,
        )
        return len(set(chosen.tolist()))

    assert different(True) > different(False)


def test_half_of_the_images_start_mirrored_where_that_keeps_the_class(copied: Copied) -> None:
    digits, mirrored = (copied(*FROM_INIT, init__kind="real", ipc=12, init__mirror=True) for _ in range(2))
    spec = mirrored.config.dataset.model_copy(update={"flip": True})
    mirrored.config = mirrored.config.model_copy(update={"dataset": spec})
    before, after = (init_images._images_of_class(context, 1, range(12)) for context in (digits, mirrored))
    assert np.array_equal(before, digits.data.train.fetch(real_choice(digits, 1)))
    turned = [np.array_equal(a[..., ::-1], b) for a, b in zip(before, after, strict=True)]
    assert np.array_equal(after[np.logical_not(turned)], before[np.logical_not(turned)])
    assert 0 < sum(turned) < 12
    assert np.array_equal(init_images._images_of_class(mirrored, 1, range(5, 7)), after[5:7])


def test_only_mosaics_are_stored_as_jpeg(copied: Copied) -> None:
    for kind, lossy in (("mosaic", True), ("real", False)):
        plain, jpeg = (_made(copied, init__kind=kind, init__image_format=form) for form in ("png", "jpeg"))
        assert (image_hashes(plain, "init") != image_hashes(jpeg, "init")) == lossy
