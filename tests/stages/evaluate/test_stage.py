"""evaluate: students that differ by their images alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edc_ray.artifacts.proof.manifest import read_shard
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.schema import read_results_table
from edc_ray.core.students.ema import Buffers, EmaParameters
from edc_ray.errors import UnitsFailedError
from edc_ray.stages.evaluate import stage as evaluate
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.training import Judgement, make_optimizer
from tests.stages.tiny_runs import manifest_of, units_of

Copied = Callable[..., StageContext]
ROWS = ("condensed", "init", "random", "random_hard", "full")


def _weights(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in network.parameters()])


class Watch:
    """What the students of a run did: initial weights, steps, weights after each step, weights judged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.initial: dict[str, Tensor] = {}
        self.steps: dict[str, list[Tensor]] = {}
        self.judged: dict[str, Tensor] = {}
        self._title = ""
        train, judge = evaluate._train, evaluate.judge

        def watched_train(
            context: StageContext, section: Any, network: nn.Module, ema: Any, row: Any, seed: int, title: str
        ) -> Any:
            self._title = title
            self.initial[title], self.steps[title] = _weights(network), []
            return train(context, section, network, ema, row, seed, title)

        def watched_optimizer(network: nn.Module, section: Any, **options: bool) -> torch.optim.Optimizer:
            optimizer = make_optimizer(network, section, **options)
            optimizer.register_step_post_hook(lambda *_: self.steps[self._title].append(_weights(network)))
            return optimizer

        def watched_judge(network: nn.Module, *rest: Any) -> Judgement:
            self.judged[self._title] = _weights(network)
            return judge(network, *rest)

        monkeypatch.setattr(evaluate, "_train", watched_train)
        monkeypatch.setattr(evaluate, "make_optimizer", watched_optimizer)
        monkeypatch.setattr(evaluate, "judge", watched_judge)


def _evaluated(copied: Copied, **fields: Any) -> StageContext:
    context = copied("evaluate", **fields)
    run_pipeline(context, ["evaluate"])
    return context


def test_one_unit_is_a_row_a_student_and_a_seed(copied: Copied) -> None:
    context = copied("evaluate", evaluate__students=["convnet_d1", "wrn_16_2"])
    work = [
        tuple(unit.work[name] for name in ("row", "student", "seed"))
        for unit in units_of(context, "evaluate")
    ]
    assert work == [
        (row, student, seed) for row in ROWS for student in ("convnet_d1", "wrn_16_2") for seed in (0, 1)
    ]


def test_all_rows_of_a_seed_start_from_the_same_weights_and_take_as_many_steps(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    _evaluated(copied)
    for seed in (0, 1):
        titles = [f"row {row}, student convnet_d1, seed {seed}" for row in ROWS]
        assert all(torch.equal(watch.initial[title], watch.initial[titles[0]]) for title in titles)
        # 3 epochs of 6 views in batches of 3.
        assert [len(watch.steps[title]) for title in titles] == [6] * 5
        ends = [watch.steps[title][-1] for title in titles]
        assert not any(torch.equal(ends[0], end) for end in ends[1:])
    first, second = (watch.initial[f"row init, student convnet_d1, seed {seed}"] for seed in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("decay", [0.9, 0.0])
def test_the_averaged_weights_are_judged_where_ema_is_on_and_the_live_ones_otherwise(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, decay: float
) -> None:
    watch = Watch(monkeypatch)
    _evaluated(copied, evaluate__ema_decay=decay, evaluate__rows=["condensed"], evaluate__seeds=1)
    ((title, steps),) = watch.steps.items()
    average = watch.initial[title]
    for live in steps:
        average = decay * average + (1 - decay) * live
    torch.testing.assert_close(watch.judged[title], average)
    assert torch.equal(watch.judged[title], steps[-1]) == (decay == 0)


def test_gradients_of_several_batches_make_one_step_and_the_rest_of_an_epoch_its_own(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    _evaluated(
        copied, evaluate__rows=["init"], evaluate__seeds=1, evaluate__batch_size=2, evaluate__accumulation=2
    )
    ((_, steps),) = watch.steps.items()
    assert len(steps) == 3 * 2


@pytest.mark.parametrize("loss", ["kl", "dist", "mse_ce", "mse_ce_flat"])
@pytest.mark.parametrize("student", ["convnet_d1", "wrn_16_2"])
def test_every_loss_trains_a_student(copied: Copied, loss: str, student: str) -> None:
    context = _evaluated(
        copied, evaluate__loss=loss, evaluate__students=[student], evaluate__seeds=1,
        evaluate__rows=["condensed", "random_hard"],
    )  # fmt: skip
    soft, hard = manifest_of(context, "evaluate").records
    assert 0 <= soft.meta["result"]["top1"] <= 100
    assert len(soft.meta["curves"]["loss"]) == 3
    assert len(hard.meta["curves"]["loss"]) == 3


def test_hard_labels_do_not_depend_on_the_loss_of_the_other_rows(copied: Copied) -> None:
    tops = []
    for loss in ("kl", "mse_ce"):
        context = _evaluated(copied, evaluate__loss=loss, evaluate__rows=["random_hard"], evaluate__seeds=1)
        tops.append(manifest_of(context, "evaluate").records[0].meta["curves"]["loss"])
    assert tops[0] == tops[1]


def test_results_in_the_manifest_are_those_of_the_tables(finished: StageContext) -> None:
    manifest = manifest_of(finished, "evaluate")
    results = []
    for shard in manifest.shards:
        rows, about = read_results_table(
            table_from_bytes(read_shard(finished.store, "results", shard), url="x")
        )
        results += rows
        assert len(about["per_class"]) == 3
    assert results == manifest.meta["results"]
    assert [result["ipc"] for result in results if result["row"] == "full"] == [None, None]
    assert {result["ipc"] for result in results if result["row"] != "full"} == {2}


def test_the_full_row_is_cited_where_it_is_not_trained(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    cited = {"evaluate__rows": ["init", "full"], "evaluate__full_accuracy": 91.5, "evaluate__seeds": 1}
    skipped = _evaluated(copied, evaluate__full="skip", **cited)
    assert [unit.work["row"] for unit in units_of(skipped, "evaluate")] == ["init"]
    assert manifest_of(skipped, "evaluate").meta["full_cited"] == 91.5
    monkeypatch.setattr(evaluate, "FULL_LIMIT", 35)
    large = _evaluated(copied, **cited)
    assert manifest_of(large, "evaluate").meta["full_cited"] == 91.5
    trained = _evaluated(copied, evaluate__full="train", **cited)
    assert "full_cited" not in manifest_of(trained, "evaluate").meta
    assert [unit.work["row"] for unit in units_of(trained, "evaluate")] == ["init", "full"]


def test_an_unfinished_figure_is_not_cited(copied: Copied) -> None:
    context = _evaluated(copied, evaluate__full="skip", evaluate__seeds=1)
    assert "full_cited" not in manifest_of(context, "evaluate").meta


def test_a_student_whose_loss_is_no_number_is_named_and_the_others_are_done(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = evaluate.STUDENT_LOSSES["ce"]  # of random_hard alone

    def poisoned(*arguments: Any) -> Tensor:
        return real(*arguments) * float("nan")

    monkeypatch.setitem(evaluate.STUDENT_LOSSES, "ce", poisoned)  # type: ignore[attr-defined]
    context = copied("evaluate", evaluate__seeds=1)
    with pytest.raises(UnitsFailedError, match="evaluate: 1 of 5 units failed") as caught:
        run_pipeline(context, ["evaluate"])
    message = str(caught.value)
    assert "row random_hard, student convnet_d1, seed 0: the training loss is nan in epoch 0" in message


def test_a_network_trained_alone_gives_the_loss_of_its_averages_their_own_logits(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    used: set[Buffers] = set()
    real = evaluate._ema_logits

    def spying(context: StageContext, network: nn.Module, ema: EmaParameters, views: Tensor) -> Tensor:
        before = _weights(network)
        logits = real(context, network, ema, views)
        assert torch.equal(_weights(network), before)
        assert network.training
        seen.append(logits.requires_grad)
        used.add(context.config.evaluate.flat_buffers)
        return logits

    monkeypatch.setattr(evaluate, "_ema_logits", spying)
    fields: dict[str, Any] = {"evaluate__rows": ["condensed"], "evaluate__seeds": 1}
    _evaluated(copied, evaluate__loss="mse_ce_flat", **fields)
    assert seen == [False] * 6
    assert used == {"live"}
    _evaluated(copied, evaluate__loss="mse_ce_flat", evaluate__flat_buffers="initial", **fields)
    assert used == {"live", "initial"}
    seen.clear()
    _evaluated(copied, evaluate__loss="mse_ce", **fields)
    assert not seen
