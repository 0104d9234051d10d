"""evaluate: train students on the condensed set and on its control rows, judge them on real images.

One unit is one student: a row, a network and a seed. Rows differ in their images only (and random_hard in its
labels): they have the same images per epoch, epochs, optimiser steps, recipe and labelling observers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import chain, islice, product, tee
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edc_ray.artifacts.proof.records import Record
from edc_ray.artifacts.storage.layout import network_key, student_name, table_name
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import build_results_table
from edc_ray.config.run import RunConfig
from edc_ray.config.stages import EvaluateConfig
from edc_ray.core.seeding import draws
from edc_ray.core.students.ema import EmaParameters
from edc_ray.core.students.student_loss import NEEDS_EMA_LOGITS, STUDENT_LOSSES, LossOptions
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.digests import digest_of
from edc_ray.errors import ConfigError
from edc_ray.models.registry import build_network, check_network, network_names, unknown_network
from edc_ray.stages.evaluate.rows import (
    HARD_ROWS,
    EpochOfRow,
    Row,
    epochs_of,
    joined,
    labels_are_made,
    row_digest,
    row_of,
)
from edc_ray.stages.init import stage as init
from edc_ray.stages.recover import stage as recover
from edc_ray.stages.relabel import stage as relabel
from edc_ray.stages.relabel.stage import rendered
from edc_ray.stages.squeeze import stage as squeeze
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.numerics import placed
from edc_ray.stages.units.plan import Stage, UnitOutput, WorkUnit, blocks
from edc_ray.stages.units.rendering import Batches, rendered_batches, views_at_once
from edc_ray.stages.units.training import (
    batches_of,
    check_loss,
    judge,
    make_optimizer,
    mean_over_group,
    network_shard,
    set_rate,
    wrapped_for_group,
)
from edc_ray.stages.units.training_step import TrainingStep, begin_training, captures_of

_EPOCHS_AT_ONCE = 16  # whose views are made together on a GPU, if there are few
FULL_LIMIT = 200_000  # real images up to which evaluate.full=auto trains the row itself


def plan(context: StageContext) -> list[WorkUnit]:
    section, units = context.config.evaluate, []
    rows = [row for row in section.rows if row != "full" or trains_full(context)]
    for row, student, seed in product(rows, section.students, range(section.seeds)):
        # A unit, and so its fingerprint, has what its row or student changes of the recipe.
        work: dict[str, Any] = {"row": row, "student": student, "seed": seed}
        if row in HARD_ROWS:
            work["mix"] = "none"
        if student in section.learning_rates:
            work["learning_rate"] = section.learning_rates[student]
        key = f"{row}_{network_key(student)}_seed-{seed:03d}"
        units.append(WorkUnit("evaluate", key, f"row {row}, student {student}, seed {seed}", work))
    return units


def trains_full(context: StageContext) -> bool:
    """Whether the row `full` is trained, not cited or left out."""
    full = context.config.evaluate.full
    return full == "train" or (full == "auto" and len(context.data.train) <= FULL_LIMIT)


def check(config: RunConfig, data: OpenedDataset, store: Store) -> None:
    """See `Stage.check`: students exist and take the images; learning rates have no misspelt student."""
    students, rates = config.evaluate.students, config.evaluate.learning_rates
    for name in students:
        check_network(name, **data.train.network_shape)
    known = list(dict.fromkeys((*network_names(), *students)))
    for name in rates:
        if name not in known:
            error = unknown_network(name, known, "a plain name, or one of evaluate.students")
            summary = f"evaluate.learning_rates: {error.summary}"
            raise ConfigError(summary, expected=error.expected, next=error.next)


def inputs(context: StageContext, unit: WorkUnit) -> Any:
    observers = context.observer_digests(context.config.observers_of("relabel"))
    return digest_of([row_digest(context, unit.work["row"]), observers, context.data.val.content_hash])


def prepare(context: StageContext) -> None:
    """See `Stage.prepare`: the observers that label rows. They are fused, which switches how CUDA rounds."""
    if any(labels_are_made(context, row) for row in context.config.evaluate.rows):
        for name in context.config.observers_of("relabel"):
            context.observer_forward(name)


def train_student(context: StageContext, unit: WorkUnit) -> UnitOutput:
    """Trains one student and judges it, with averaged parameters unless ema_decay is 0."""
    section, train, seed = context.config.evaluate, context.data.train, context.config.seed
    row_name, student, student_seed = unit.work["row"], unit.work["student"], unit.work["seed"]
    # The same initial weights for all rows of a seed: the rows then differ by their images alone.
    weights_seed = draws(seed, "evaluate", "weights", student, student_seed).torch_seed()
    built = build_network(student, **train.network_shape, seed=weights_seed)
    network = placed(built, context.config, context.device)
    dropout_seed = draws(seed, "evaluate", "dropout", student, student_seed).torch_seed()
    begin_training(context, network, dropout_seed)
    row = row_of(context, row_name, student_seed)
    ema = None
    if section.ema_decay:
        ema = EmaParameters(network, section.ema_decay, buffers=section.ema_buffers)
    rate = unit.work.get("learning_rate", section.learning_rate)
    section = section.model_copy(update={"learning_rate": rate})
    losses = _train(context, section, network, ema, row, student_seed, unit.title)
    shards, meta = {}, {}
    if section.save_students:
        shards[student_name(unit.key, "live")] = network_shard(network, student, context)
    with ema.swapped() if ema is not None else nullcontext():
        judgement = judge(network, context.data.val, context, section.val_batch_size)
        if section.save_students and ema is not None:
            shards[student_name(unit.key, "averaged")] = network_shard(network, student, context)
    if section.save_students:
        meta["students"] = {"weights": sorted(shards), "judged": list(shards)[-1]}
    result = {
        "row": row_name, "ipc": None if row_name == "full" else context.config.ipc,
        "student": student, "seed": student_seed,
        "top1": judgement.top1, "top5": judgement.top5, "ece": judgement.ece,
    }  # fmt: skip
    if "learning_rate" in unit.work:
        result["learning_rate"] = rate
    metadata = {"per_class": judgement.per_class}
    table = build_results_table(
        [result], train.class_names, dataset=context.config.dataset.name, metadata=metadata
    )
    shards = {table_name(unit.key): (table_to_bytes(table), 1)} | shards
    facts = {"result": result, "curves": {"loss": losses}, "kernels": context.kernels_name()}
    return UnitOutput(shards, meta | facts | context.at_once.facts("accuracy", "labels and scores"))


def _train(
    context: StageContext,
    section: EvaluateConfig,
    network: nn.Module,
    ema: EmaParameters | None,
    row: Row,
    student_seed: int,
    title: str,
) -> list[float]:
    epochs = context.config.training_epochs
    trained = wrapped_for_group(network, context)
    loss_name = "ce" if row.hard else section.loss
    captures = captures_of(context, f"evaluate: {title}", _why_not_captured(section, loss_name))
    optimizer = make_optimizer(trained, section, captured=captures is not None)
    numerics = context.numerics()
    forward = numerics.forward(trained)

    def loss_of(views: Tensor, soft: Tensor, labels: Tensor) -> Tensor:
        ema_logits = None
        if loss_name in NEEDS_EMA_LOGITS and ema is not None:
            # Before the student's own forward: its backward needs the weights that the averages replace here.
            ema_logits = _ema_logits(context, network, ema, views)
        options = LossOptions(
            temperature=section.temperature, ce_weight=section.ce_weight, ema_logits=ema_logits
        )
        return STUDENT_LOSSES[loss_name](forward(views), soft, labels, options)

    after = (lambda: None) if ema is None else ema.update
    train_step = TrainingStep(
        optimizer, loss_of, context.device, numerics.dtype,
        after=after, captures=captures, seat=context.seat,
    )  # fmt: skip
    losses: list[float] = []
    plans, ahead = tee(_epochs(context, row, student_seed))
    batches = rendered_batches((batches for _, batches in ahead), context)
    for number, steps in enumerate(chain.from_iterable(steps for steps, _ in plans)):
        trained.train()
        set_rate(optimizer, section, number, epochs, losses)
        total = torch.zeros((), device=context.device)
        for step in steps:
            train_step(zip(islice(batches, len(step)), step, strict=True), total)
        mean = mean_over_group(total / sum(map(len, steps)), context)
        losses.append(check_loss(mean, f"evaluate: {title}", number))
    return [round(value, 5) for value in losses[:: max(1, epochs // 50)]]


def _epochs(
    context: StageContext, row: Row, student_seed: int
) -> Iterator[tuple[list[list[list[float]]], Batches]]:
    """Some epochs whose views are made together: the weights of the batches of each epoch's steps, and what
    makes the batches of all."""
    epochs = enumerate(epochs_of(row, context.config.training_epochs))
    for number, epoch in epochs:
        more = min(_EPOCHS_AT_ONCE, views_at_once(context) // len(epoch.views)) - 1
        together = [(number, epoch), *islice(epochs, max(0, more))]
        shares, batches, first = [], [], 0
        for place, each in together:
            steps = steps_of(_order_of(context, student_seed, place, len(each.views)), context)
            shares.append([[share for _, share in step] for step in steps])
            batches += [first + rows for step in steps for rows, _ in step]
            first += len(each.views)
        all_views = epoch if len(together) == 1 else joined([each for _, each in together])
        yield shares, (list(map(len, batches)), partial(_shown, context, all_views, batches))


def _order_of(context: StageContext, student_seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of an epoch's views; with evaluate.order=groups the stored one.

    Deviations:
        the official programs show the stored batches one after the other; by default ours mixes the groups,
        so that the images of a step differ between students and do not depend on the labels' batches.
    """
    if context.config.evaluate.order == "groups":
        return np.arange(count)
    return draws(context.config.seed, "evaluate", "order", student_seed, epoch).permutation(count)


def steps_of(order: np.ndarray, context: StageContext) -> list[list[tuple[np.ndarray, float]]]:
    """An epoch's optimiser steps: the batches of each, with the weight of a batch's loss in its step.

    A batch weighs as its share of the step's images. With drop_remainder it weighs 1 / accumulation, as in
    the official code, where the last step of an epoch is weaker if it has fewer batches.
    """
    section = context.config.evaluate
    batches = list(batches_of(order, section.batch_size, context, drop_remainder=section.drop_remainder))
    steps = []
    for first, end in blocks(len(batches), section.accumulation):
        step = batches[first:end]
        images = sum(map(len, step))
        shares = [len(rows) / images for rows in step]
        if section.drop_remainder:
            shares = [1 / section.accumulation] * len(step)
        steps.append(list(zip(step, shares, strict=True)))
    return steps


def _shown(
    context: StageContext, epoch: EpochOfRow, batches: list[np.ndarray], numbers: range
) -> tuple[Tensor, Tensor, Tensor]:
    """Views, soft labels and classes of some consecutive batches of an epoch's rows."""
    rows = np.concatenate([batches[number] for number in numbers])
    chosen = torch.from_numpy(rows).to(context.device)
    views = rendered(context, epoch.images, epoch.views, rows)
    return views, epoch.logits[chosen], epoch.labels[chosen]


def _why_not_captured(section: EvaluateConfig, loss_name: str) -> str | None:
    if section.accumulation > 1:
        return "evaluate.accumulation"
    return f"evaluate.loss={loss_name}, which swaps weights" if loss_name in NEEDS_EMA_LOGITS else None


@torch.no_grad()
def _ema_logits(context: StageContext, network: nn.Module, ema: EmaParameters, views: Tensor) -> Tensor:
    network.eval()
    with ema.swapped(buffers=context.config.evaluate.flat_buffers):
        logits = context.numerics().forward(network)(views)
    network.train()
    return logits


def passes(config: RunConfig, data: OpenedDataset) -> Counter[str]:
    """Training of all students. Labels of `condensed` are stored; observers label the other soft rows."""
    section = config.evaluate
    images = config.training_epochs * config.ipc * len(data.train.class_names) * section.seeds
    labelled = [row for row in section.rows if row not in HARD_ROWS and row != "condensed"]
    found = Counter(dict.fromkeys(section.students, 3 * images * len(section.rows)))
    found.update(dict.fromkeys(config.observers_of("relabel"), images * len(labelled)))
    return found


def images_of(context: StageContext, unit: WorkUnit) -> int:
    """Views that the student sees over all epochs."""
    config = context.config
    return config.training_epochs * config.ipc * len(context.data.train.class_names)


def finish(context: StageContext, records: list[Record]) -> tuple[list[Record], dict[str, Any]]:
    """All results, and the cited figure of `full` if it was not trained."""
    section = context.config.evaluate
    meta: dict[str, Any] = {"results": [record.meta["result"] for record in records]}
    if "full" in section.rows and not trains_full(context) and section.full_accuracy is not None:
        meta["full_cited"] = section.full_accuracy
    return records, meta


STAGE = Stage(
    name="evaluate",
    version=3,
    needs=(squeeze.STAGE, recover.STAGE, init.STAGE, relabel.STAGE),
    check=check,
    choices_of_units=frozenset(
        f"evaluate.{field}"
        for field in ("students", "rows", "seeds", "full", "full_accuracy", "learning_rates")
    ),
    sees_ipc=lambda config: True,
    plan=plan,
    inputs=inputs,
    run_unit=train_student,
    finish=finish,
    finish_inputs=lambda context: context.config.evaluate.full_accuracy,
    num_workers=lambda config: config.evaluate.num_workers,
    trains=True,
    prepare=prepare,
    passes=passes,
    images=images_of,
)
