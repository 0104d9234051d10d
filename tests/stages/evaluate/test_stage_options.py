"""evaluate: online labels, accumulation, schedules, buffers beside the averages, stored weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision import models

from edc_ray.artifacts.proof.manifest import read_shard
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.schema import read_results_table
from edc_ray.core.views.views import EpochViews
from edc_ray.errors import ConfigError
from edc_ray.models.observers import network_from_bytes
from edc_ray.stages.evaluate import rows
from edc_ray.stages.evaluate import stage as evaluate
from edc_ray.stages.evaluate.stage import steps_of
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import Group, LabelledEpochs, StageContext
from edc_ray.stages.units.training import Judgement, judge
from tests.stages.tiny_runs import OBSERVERS, manifest_of, tiny_config

Copied = Callable[..., StageContext]
STATISTIC = "layer1.0.bn1.running_var"  # of the first batch norm of wrn_16_2
ONE = {"evaluate__rows": ["condensed"], "evaluate__seeds": 1}


def _evaluated(copied: Copied, **fields: Any) -> StageContext:
    context = copied("evaluate", **fields)
    run_pipeline(context, ["evaluate"])
    return context


def _results(context: StageContext) -> list[dict[str, Any]]:
    return [
        {"loss": record.meta["curves"]["loss"], **record.meta["result"]}
        for record in manifest_of(context, "evaluate").records
    ]


def test_students_labelled_online_equal_those_of_the_stored_labels(copied: Copied) -> None:
    fields = {"evaluate__seeds": 2, "evaluate__rows": ["condensed"], "relabel__patch_shuffle": 2}
    stored, online = (
        copied("relabel", "evaluate", **fields, relabel__labels=kind) for kind in ("stored", "online")
    )
    for context in (stored, online):
        run_pipeline(context, ["relabel", "evaluate"])
    assert _results(stored) == _results(online)
    assert manifest_of(stored, "relabel").shards
    assert not manifest_of(online, "relabel").shards


@pytest.mark.parametrize("labels", ["stored", "online"])
def test_students_of_a_row_whose_images_do_not_differ_share_its_labels(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, labels: str
) -> None:
    asked: list[int] = []
    real = rows.label_views

    def counting(*arguments: Any) -> np.ndarray:
        asked.append(1)
        return real(*arguments)

    monkeypatch.setattr(rows, "label_views", counting)
    fields = {"evaluate__rows": ["condensed", "init", "random"], "relabel__labels": labels}
    context = copied("relabel", "evaluate", **fields)
    run_pipeline(context, ["relabel", "evaluate"])
    # 3 epochs and 2 seeds: init once, random newly drawn for each seed.
    assert len(asked) == 3 + 2 * 3 + (3 if labels == "online" else 0)
    alone = replace(copied("relabel", "evaluate", **fields), labelled=LabelledEpochs(limit=0))
    run_pipeline(alone, ["relabel", "evaluate"])
    assert _results(alone) == _results(context)


def test_any_batch_size_trains_on_the_same_views_and_labels(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = evaluate.rendered, []

    def spying(*arguments: Any, **named: Any) -> torch.Tensor:
        views = real(*arguments, **named)
        seen.extend(view.numpy().tobytes() for view in views)
        return views

    monkeypatch.setattr(evaluate, "rendered", spying)
    shown = []
    for size in (2, 3, 4, 6):
        seen.clear()
        _evaluated(copied, evaluate__batch_size=size, **ONE)
        shown.append([sorted(seen[first : first + 6]) for first in range(0, 18, 6)])
    assert shown[0] == shown[1] == shown[2] == shown[3]


def _shown(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, **fields: Any
) -> tuple[list[EpochViews], list[np.ndarray]]:
    """Views and rows of every batch that the students of a run saw."""
    real, views, shown = evaluate.rendered, [], []

    def spying(of_run: StageContext, images: torch.Tensor, of: EpochViews, chosen: np.ndarray) -> Any:
        views.append(of)
        shown.append(chosen)
        return real(of_run, images, of, chosen)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "rendered", spying)
        run_pipeline(copied("relabel", "evaluate", **fields), ["relabel", "evaluate"])
    return views, shown


@pytest.mark.parametrize("labels", ["stored", "online"])
def test_in_the_order_of_groups_a_batch_is_a_stored_group_for_every_student(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, labels: str
) -> None:
    """Six images in groups of four, for three epochs."""
    fields = {"evaluate__rows": ["condensed"], "evaluate__batch_size": 4, "relabel__labels": labels}
    views, shown = _shown(copied, monkeypatch, **fields, evaluate__order="groups")
    assert [batch.tolist() for batch in shown] == [[0, 1, 2, 3], [4, 5]] * 3 * 2
    for of, batch in zip(views, shown, strict=True):
        assert len(set(of.group[batch])) == 1
        assert set(of.partner[batch]) == set(batch)
    images = [of.image[batch].tolist() for of, batch in zip(views, shown, strict=True)]
    assert images[:6] == images[6:]
    shuffled = [batch.tolist() for batch in _shown(copied, monkeypatch, **fields)[1]]
    assert sorted(shuffled[0] + shuffled[1]) == list(range(6))
    assert shuffled[:6] != shuffled[6:]


@pytest.mark.parametrize(("batch", "accumulation", "ranks"), [(12, 1, 1), (3, 2, 1), (3, 4, 1), (6, 1, 2)])
def test_a_step_of_groups_is_whole_however_it_is_cut(
    finished: StageContext, batch: int, accumulation: int, ranks: int
) -> None:
    """Twenty views in groups of six: three groups and a rest of two."""
    fields = {"batch_size": batch, "accumulation": accumulation}
    steps = [_steps(finished, 20, rank, ranks, **fields) for rank in range(ranks)]
    groups = [
        {int(view) // 6 for rank in step for share, _ in rank for view in share}
        for step in zip(*steps, strict=True)
    ]
    assert sorted(group for step in groups for group in step) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("batch", "accumulation", "fits"),
    [(4, 1, True), (8, 1, True), (2, 2, True), (6, 1, False), (2, 1, False), (2, 3, False)],
)
def test_steps_that_would_cut_a_group_are_refused(batch: int, accumulation: int, fits: bool) -> None:
    fields: dict[str, Any] = {"evaluate__batch_size": batch, "evaluate__accumulation": accumulation}
    tiny_config(**fields)
    if fits:
        tiny_config(**fields, evaluate__order="groups")
        return
    with pytest.raises(ConfigError, match=f"a step of {batch * accumulation} images") as caught:
        tiny_config(**fields, evaluate__order="groups")
    assert "relabel.mix_group=4" in str(caught.value)


def test_a_student_has_its_own_rate_and_leaves_the_others_alone(copied: Copied) -> None:
    students = {"evaluate__students": ["convnet_d1", "wrn_16_2"], **ONE}
    usual = _evaluated(copied, **students)
    own = _evaluated(copied, **students, evaluate__learning_rates={"wrn_16_2": 0.02})
    alone = _evaluated(copied, **students, evaluate__learning_rate=0.02)
    assert _results(own)[0] == _results(usual)[0]
    assert _results(own)[1] == _results(alone)[1] | {"learning_rate": 0.02} != _results(usual)[1]
    prints = [[record.fingerprint for record in manifest_of(one, "evaluate").records] for one in (usual, own)]
    assert prints[0][0] == prints[1][0]
    assert prints[0][1] != prints[1][1]
    shard = manifest_of(own, "evaluate").records[1].shards[0]
    table = table_from_bytes(read_shard(own.store, "results", shard), url="x")
    assert read_results_table(table)[0][0]["learning_rate"] == 0.02


def _steps(context: StageContext, count: int, rank: int = 0, size: int = 1, **fields: Any) -> list[list[Any]]:
    section = context.config.evaluate.model_copy(update=fields)
    config = context.config.model_copy(update={"evaluate": section})
    return steps_of(np.arange(count), replace(context, config=config, group=Group(rank, size)))


@pytest.mark.parametrize("count", [12, 11, 7, 5, 3])
def test_accumulated_batches_weigh_as_their_images_do(finished: StageContext, count: int) -> None:
    steps = _steps(finished, count, batch_size=3, accumulation=2)
    assert np.concatenate([rows for step in steps for rows, _ in step]).tolist() == list(range(count))
    for step in steps:
        images = sum(len(rows) for rows, _ in step)
        assert [share for _, share in step] == [len(rows) / images for rows, _ in step]


def test_accumulated_gradients_are_those_of_the_whole_batch(finished: StageContext) -> None:
    images, labels = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 3
    network = nn.Linear(5, 3)
    gradients = []
    for fields in ({"batch_size": 7}, {"batch_size": 3, "accumulation": 3}):
        (step,) = _steps(finished, 7, **fields)
        network.zero_grad()
        for batch, share in step:
            chosen = torch.from_numpy(batch)
            (nn.functional.cross_entropy(network(images[chosen]), labels[chosen]) * share).backward()
        assert network.weight.grad is not None
        gradients.append(network.weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_official_rule_weakens_the_last_step_and_leaves_out_what_does_not_divide(
    finished: StageContext,
) -> None:
    fields = {"batch_size": 4, "accumulation": 2, "drop_remainder": True}
    steps = _steps(finished, 10, **fields)
    # Batches of 4, 4 and 2: the last step has one batch, and still weighs it by half.
    assert [[(len(rows), share) for rows, share in step] for step in steps] == [[(4, 0.5)] * 2, [(2, 0.5)]]
    # Two processes: a last batch of one is left out, and so is the fifth image of a batch.
    for count, size, kept in ((9, 4, list(range(8))), (10, 5, [0, 1, 2, 3, 5, 6, 7, 8])):
        ranks = [_steps(finished, count, rank, 2, batch_size=size, drop_remainder=True) for rank in range(2)]
        shown = [np.concatenate([rows for step in steps for rows, _ in step]).tolist() for steps in ranks]
        assert len(shown[0]) == len(shown[1]) == 4
        assert sorted(shown[0] + shown[1]) == kept


def test_an_adaptive_rate_goes_by_the_losses_and_the_others_do_not(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    real = evaluate.set_rate

    def spying(*arguments: Any) -> float:
        rates.append(real(*arguments))
        return rates[-1]

    monkeypatch.setattr(evaluate, "set_rate", spying)
    monkeypatch.setattr(evaluate, "check_loss", lambda loss, what, epoch: 1.0)  # stalls at once
    fields: dict[str, Any] = {"relabel__epochs": 4, "relabel__labels": "online", **ONE}
    context = copied("relabel", "evaluate", evaluate__schedule="alrs", **fields)
    run_pipeline(context, ["relabel", "evaluate"])
    base = context.config.evaluate.learning_rate
    # The first loss is far from the start value, the second is the first that has not moved.
    assert rates == pytest.approx([base, base, base * 0.9975, base * 0.9975**2])


@pytest.mark.parametrize("buffers", ["live", "averaged", "initial"])
def test_the_chosen_buffers_are_judged_beside_the_averaged_weights(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, buffers: str
) -> None:
    judged: list[float] = []

    def spying(network: nn.Module, *rest: Any) -> Judgement:
        judged.append(float(network.state_dict()[STATISTIC].mean()))
        return judge(network, *rest)

    monkeypatch.setattr(evaluate, "judge", spying)
    fields: dict[str, Any] = {"evaluate__students": ["wrn_16_2"], "evaluate__save_students": True, **ONE}
    context = _evaluated(copied, evaluate__ema_buffers=buffers, evaluate__ema_decay=0.5, **fields)
    (record,) = manifest_of(context, "evaluate").records
    live = _weights_of(context, record.shards, "live")
    expected = float(live[STATISTIC].mean())
    if buffers == "live":
        assert judged == [pytest.approx(expected)]
    elif buffers == "initial":
        assert judged == [1.0]
    else:
        assert judged[0] not in (pytest.approx(expected), 1.0)


def _weights_of(context: StageContext, shards: Any, kind: str) -> dict[str, torch.Tensor]:
    (shard,) = [one for one in shards if one.path.endswith(f"_{kind}.safetensors")]
    return safetensors.torch.load(read_shard(context.store, "results", shard))


def test_stored_students_are_loaded_by_their_own_library_and_judged_alike(copied: Copied) -> None:
    fields: dict[str, Any] = {"evaluate__students": ["mobilenet_v3_small"], "evaluate__save_students": True}
    context = _evaluated(copied, **fields, **ONE)
    (record,) = manifest_of(context, "evaluate").records
    key = "condensed_mobilenet_v3_small_seed-000"
    names = [f"{key}_averaged.safetensors", f"{key}_live.safetensors"]
    assert record.meta["students"] == {"weights": names, "judged": names[0]}
    tops = {}
    for kind in ("live", "averaged"):
        network = models.mobilenet_v3_small(num_classes=3)
        stem = nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1, bias=False)
        network.features[0][0] = stem  # type: ignore[index]  (grey images)
        network.load_state_dict(_weights_of(context, record.shards, kind))
        found = judge(network, context.data.val, context, 256)
        tops[kind] = (found.top1, found.ece)
    assert tops["averaged"] == (record.meta["result"]["top1"], record.meta["result"]["ece"])
    assert tops["live"] != tops["averaged"]


def test_a_student_without_averages_stores_its_live_weights_alone(copied: Copied) -> None:
    context = _evaluated(copied, evaluate__ema_decay=0, evaluate__save_students=True, **ONE)
    (record,) = manifest_of(context, "evaluate").records
    name = "condensed_convnet_d1_seed-000_live.safetensors"
    assert record.meta["students"] == {"weights": [name], "judged": name}
    (shard,) = [one for one in record.shards if one.path == name]
    network = network_from_bytes(read_shard(context.store, "results", shard), name="convnet_d1")
    assert judge(network, context.data.val, context, 256).top1 == record.meta["result"]["top1"]


def test_storing_students_changes_no_result(copied: Copied, finished: StageContext) -> None:
    context = _evaluated(copied, evaluate__save_students=True, **ONE)
    assert _results(context) == _results(finished)[:1]


def test_results_hold_top1_top5_calibration_and_each_class(finished: StageContext) -> None:
    for shard in manifest_of(finished, "evaluate").shards:
        table = table_from_bytes(read_shard(finished.store, "results", shard), url="x")
        (row,), about = read_results_table(table)
        assert 0 <= row["top1"] <= row["top5"] == 100
        assert 0 <= row["ece"] <= 1
        # Classes of equal size: their mean is the whole.
        assert np.mean(about["per_class"]) == pytest.approx(row["top1"], abs=1e-3)


@pytest.mark.parametrize(("names", "loaded"), [(["condensed", "random_hard"], ()), (["init"], OBSERVERS)])
def test_observers_that_label_rows_are_there_before_students_train_at_the_same_time(
    copied: Copied, names: list[str], loaded: tuple[str, ...]
) -> None:
    context = copied("evaluate", evaluate__rows=names)
    evaluate.STAGE.prepare(context)
    assert {name for _, name, *_ in context._fused} == set(loaded)
