"""Epochs of a student: stored labels read, views made, one optimiser step for each batch, averages.

    python benchmarks/bench_student_step.py [--images 500] [--image-size 32] [--batch-size 50] [--json]

The student, the images and the labels are random; the time depends on none of them. One call is two epochs,
so that it shows the effect of reading ahead. Three variants:

    plain      forward, backward and the same optimiser on views made before
    reference  each picture opened and cut by itself, a label file for each batch, parameters updated and
               averaged one by one (reference/label_batches.py)
    ours       as the stage does it with --precision and --compile, in a separate process

plain and reference compute a ConvNet by torch's own layers (reference/torch_layers.py). reference and ours
are also measured without the student, which is their data path alone. ours is also measured without its data
path, on views made before. The JSON object is that of bench_relabel.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from epochs import MEAN, STD, Work, parser, random_logits, work_of
from harness import chosen_network, chosen_numerics, in_chosen_precision
from reference.label_batches import Trainer, drawn_batches, stored_batches
from reference.torch_layers import by_torch_layers
from remote import Remote
from report import print_report
from torch import Tensor, nn

from edc_ray.artifacts.tables.codec import table_from_bytes, table_to_bytes
from edc_ray.artifacts.tables.schema import build_labels_table, read_labels_table
from edc_ray.config.stages import EvaluateConfig
from edc_ray.core.captured_step import CapturedStep
from edc_ray.core.students.ema import EmaParameters
from edc_ray.core.students.student_loss import LossOptions, mse_ce
from edc_ray.core.views.views import EpochViews, render_views
from edc_ray.data.condensed.label_rows import places_of, rows_of_views, views_of_rows
from edc_ray.data.real.ahead import one_ahead
from edc_ray.kernels.cpu.views import view_kernel_for
from edc_ray.models.registry import build_network
from edc_ray.stages.units.numerics import keep_freed_memory
from edc_ray.stages.units.training import make_optimizer
from edc_ray.stages.units.training_step import TrainingStep

EPOCHS = 2
Step = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Makes a step of the student from views, their soft labels and their classes; gives the loss."""


class Epoch(NamedTuple):
    """One epoch of stored labels, read."""

    views: EpochViews
    logits: Tensor
    labels: Tensor


def student_of(options: argparse.Namespace) -> nn.Module:
    network = build_network(
        options.student, num_classes=options.classes, image_size=options.image_size, channels=3, seed=0
    )
    return network.to(options.device).train()


SECTION = EvaluateConfig(students=("convnet_w32",))
OPTIONS = LossOptions(temperature=SECTION.temperature, ce_weight=SECTION.ce_weight)


def plain_step_of(network: nn.Module) -> Step:
    """The stage's optimiser step in float32, without averages."""
    optimizer = make_optimizer(network, SECTION)

    def step(views: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        loss = mse_ce(network(views), logits, labels, OPTIONS)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def step_of(options: argparse.Namespace) -> Step:
    """The stage's step, of a new student."""
    network = chosen_network(student_of(options), options)
    numerics, ema = chosen_numerics(options), EmaParameters(network, SECTION.ema_decay)
    captures = CapturedStep if options.compile == "auto" and options.device.type == "cuda" else None
    forward, total = numerics.forward(network), torch.zeros((), device=options.device)
    train_step = TrainingStep(
        make_optimizer(network, SECTION, captured=captures is not None),
        lambda views, logits, labels: mse_ce(forward(views), logits, labels, OPTIONS),
        options.device, numerics.dtype, after=ema.update, captures=captures,
    )  # fmt: skip

    def step(views: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        train_step([((views, logits, labels), 1.0)], total)
        return total

    return step


def plain_of(work: Work, options: argparse.Namespace) -> Callable[[], object]:
    step = plain_step_of(by_torch_layers(student_of(options)))
    size, count = options.batch_size, len(work.slots)
    views = render_views(work.images, work.views(0), np.arange(count), mean=MEAN, std=STD)
    logits = torch.from_numpy(random_logits(count, options.classes)).float().to(options.device)
    batches = list(
        zip(views.split(size), logits.split(size), work.labels.to(options.device).split(size), strict=True)
    )

    def run() -> None:
        for batch in batches * EPOCHS:
            step(*batch)

    return run


def write_reference_labels(work: Work, options: argparse.Namespace, folder: Path) -> None:
    """The files of one labelled epoch."""
    folder.mkdir()
    logits = torch.from_numpy(random_logits(options.batch_size, options.classes))
    for number, (images, stored) in enumerate(drawn_batches(work.paths, work.recipe, options.batch_size)):
        torch.save([*stored, logits[: len(images)]], folder / f"batch_{number}.tar")


def reference_of(
    work: Work, options: argparse.Namespace, folder: Path, network: nn.Module | None
) -> Callable[[], object]:
    labels = work.labels
    trainer = None if network is None else Trainer(network, rate=0.001, decay=0.01, average=0.99)

    def run() -> None:
        for _ in range(EPOCHS):
            for views, logits, index in stored_batches(work.paths, work.recipe, folder):
                if trainer is not None:
                    trainer.step(
                        views.to(options.device), logits.to(options.device), labels[index].to(options.device)
                    )

    return run


def ours_of(options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """The stage's work, and its data path alone."""
    keep_freed_memory()
    work = work_of(options, Path(options.folder))
    kernel, device, count = view_kernel_for(options.device), options.device, len(work.slots)
    labels, place = work.labels.numpy(), places_of(work.labels.numpy(), work.ipc_ids)
    names, logits = [str(label) for label in range(options.classes)], random_logits(count, options.classes)
    for epoch in range(EPOCHS):
        rows = rows_of_views(epoch, work.views(epoch), labels, work.ipc_ids, logits)
        data = table_to_bytes(build_labels_table(rows, names), rows_per_group=count)
        Path(options.folder, f"{epoch}.parquet").write_bytes(data)
    step = step_of(options)

    def read(epoch: int) -> Epoch:
        path = Path(options.folder, f"{epoch}.parquet")
        rows = read_labels_table(table_from_bytes(path.read_bytes(), url=str(path)))
        own = torch.from_numpy(rows.label).to(device)
        soft = torch.from_numpy(rows.logits.copy()).float().to(device)
        return Epoch(views_of_rows(rows, place), soft, own)

    def epochs(*, train: bool) -> None:
        total = torch.zeros((), device=device)
        for number, epoch in enumerate(one_ahead(read, range(EPOCHS))):
            order = np.random.RandomState(number).permutation(count)
            for first in range(0, count, options.batch_size):
                rows = order[first : first + options.batch_size]
                views = render_views(work.images, epoch.views, rows, mean=MEAN, std=STD, kernel=kernel)
                if train:
                    chosen = torch.from_numpy(rows).to(device)
                    total += step(views, epoch.logits[chosen], epoch.labels[chosen])
        total.item()

    ready, first = render_views(work.images, work.views(0), np.arange(count), mean=MEAN, std=STD), read(0)

    def network() -> None:
        total = torch.zeros((), device=device)
        for _ in range(EPOCHS):
            for rows in torch.arange(count, device=device).split(options.batch_size):
                total += step(ready[rows], first.logits[rows], first.labels[rows])
        total.item()

    return {
        "ours": in_chosen_precision(lambda: epochs(train=True), options),
        "ours_data": lambda: epochs(train=False),
        "ours_network": in_chosen_precision(network, options),
    }


def main() -> None:
    found = parser(__doc__)
    found.add_argument("--student", default="convnet_w32")
    options = found.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        options.folder = folder
        work, stored = work_of(options, Path(folder)), Path(folder, "labels")
        write_reference_labels(work, options, stored)
        variants = {
            "plain": plain_of(work, options),
            "reference": reference_of(work, options, stored, by_torch_layers(student_of(options))),
            "reference_data": reference_of(work, options, stored, None),
        }
        with Remote(ours_of, options) as remote:
            print_report("student_step", options, variants, remote, images=EPOCHS * len(work.slots))


if __name__ == "__main__":
    main()
