"""Which parts of a config reach the loop of recover."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edc_ray.core.recover.loop import recover_images
from edc_ray.core.recover.state import LoopState
from edc_ray.stages.recover import stage as recover
from edc_ray.stages.recover.plan import settings_of_unit
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import AFTER, manifest_of, recovered, units_of

Copied = Callable[..., StageContext]
OFFICIAL: dict[str, Any] = {
    "recover__order": "official", "recover__carry": "chain", "recover__virtual_ranks": 2,
    "recover__batch_size": 3,
}  # fmt: skip


def test_pixel_terms_and_views_of_the_predecessors_reach_the_loop(copied: Copied) -> None:
    fields = {
        "crop_curriculum": "cosine", "crop_milestone": 0.5, "jitter": 2, "tv_l1_weight": 0.1,
        "tv_l2_weight": 0.2, "l2_weight": 0.3, "diversity_weight": 0.4, "diversity_temperature": 3.0,
    }  # fmt: skip
    context = recovered(copied, **{f"recover__{name}": value for name, value in fields.items()})
    settings = settings_of_unit(context.config, units_of(context, "recover")[0])
    assert {name: getattr(settings, name) for name in fields} == fields
    curves = manifest_of(context, "recover").records[0].meta["curves"]
    assert {"tv_l1", "tv_l2", "l2", "diversity"} <= set(curves)
    assert all(value > 0 for value in curves["tv_l1"])


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
    context = recovered(
        copied, **OFFICIAL | {"recover__order": order, "recover__carry": "reset"}, recover__verify_every=7
    )
    assert len(every) == sum(len(unit.work["batches"]) for unit in units_of(context, "recover"))
    assert sorted(every, reverse=True) == expected
    assert set(final) == {context.config.recover.verify_final}


def test_a_digit_is_never_mirrored_and_other_images_are(copied: Copied) -> None:
    config = copied(*AFTER).config
    unit = units_of(copied(*AFTER), "recover")[0]
    flipped = config.model_copy(update={"dataset": config.dataset.model_copy(update={"flip": True})})
    assert not config.dataset.flip
    assert [settings_of_unit(one, unit).mirror for one in (config, flipped)] == [False, True]
