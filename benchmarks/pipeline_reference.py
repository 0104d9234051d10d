"""The straightforward stages on the data and config of a run of ours, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference.label_batches import Recipe, relabel_epoch, write_pictures
from reference.torch_layers import by_torch_layers
from reference.whole_run import Pictures, Targets, mosaics, recover, save, targets_of, train_and_judge
from torch import Tensor, nn

from edc_ray.core.pixels import pixel_bounds
from edc_ray.data.real.images import ImageSet
from edc_ray.models.registry import build_network
from edc_ray.stages.recover.plan import batches_of, plan
from edc_ray.stages.units.context import StageContext

Stage = tuple[str, Callable[[], object]]


class ReferenceRun:
    """What the stages hand on to each other."""

    def __init__(self, context: StageContext, folder: Path, accuracy: dict[str, float]) -> None:
        self.context, self.config, self._folder, self._accuracy = context, context.config, folder, accuracy
        self.train = self._pictures(context.data.train, "train")
        self.val = self._pictures(context.data.val, "val")
        self.slots = [slot for unit in plan(context) for batch in batches_of(unit) for slot in batch]
        self.targets: dict[str, Targets] = {}
        self.images: dict[tuple[int, int], Tensor] = {}
        self.paths: list[Path] = []
        self.labelled: list[Path] = []

    def _observer(self, name: str) -> nn.Module:
        return by_torch_layers(self.context.observer(name))

    def _pictures(self, images: ImageSet, name: str) -> Pictures:
        """The same images as files."""
        spec = self.config.dataset
        assert spec.mean is not None
        assert spec.std is not None
        paths = write_pictures(self._folder / name, images.fetch(np.arange(len(images))), ".png")
        return Pictures(paths, images.labels.tolist(), images.image_size, spec.mean, spec.std)

    def statistics(self) -> None:
        section = self.config.statistics
        sizes: dict[str, Any] = {"batch_size": section.batch_size, "patch_side": section.patch_side}
        for name in self.config.observers_of("recover"):
            self.targets[name] = targets_of(self._observer(name), self.train, **sizes)

    def init(self) -> None:
        section, observers = self.config.init, self.config.observers_of("init")
        made = mosaics(
            self.train, [self._observer(name) for name in observers], ipc=self.config.ipc,
            factor=section.factor, crops=section.crops_per_image, images=section.images_per_class,
        )  # fmt: skip
        self._start(list(made))

    def real(self) -> None:
        """Initial images that are the first of their class."""
        members = [np.flatnonzero(np.asarray(self.train.labels) == label) for label, _ in sorted(self.slots)]
        chosen = [
            int(each[ipc_id % len(each)])
            for each, (_, ipc_id) in zip(members, sorted(self.slots), strict=True)
        ]
        self._start([self.train.load(index) for index in chosen])

    def _start(self, images: list[Tensor]) -> None:
        self.images = dict(zip(sorted(self.slots), images, strict=True))

    def recover(self) -> None:
        section = self.config.recover
        observers = {name: self._observer(name) for name in self.config.observers_of("recover")}
        for unit in plan(self.context):
            for batch in batches_of(unit):
                start = torch.stack([self.images[slot] for slot in batch])
                done = recover(
                    start, torch.tensor([label for label, _ in batch]), observers, self.targets,
                    iterations=section.iterations, rate=section.learning_rate, betas=section.betas,
                    matching_weight=section.matching_weight, momentum=section.statistic_momentum,
                    patch_side=self.config.statistics.patch_side,
                    flip=self.config.dataset.flip and section.mirror,
                    bounds=pixel_bounds(self.train.mean, self.train.std, start),
                )  # fmt: skip
                self.images |= dict(zip(batch, done, strict=True))
        images = torch.stack([self.images[slot] for slot in sorted(self.slots)])
        self.paths = save(images, self._folder / "condensed", self.train.mean, self.train.std)

    def relabel(self) -> None:
        observers = [self._observer(name) for name in self.config.observers_of("relabel")]
        for epoch in range(self.config.relabel.epochs):
            folder = self._folder / f"epoch_{epoch}"
            relabel_epoch(self.paths, self._recipe(), self.config.relabel.mix_group, observers, folder)
            self.labelled.append(folder)

    def evaluate(self) -> None:
        labels, found = torch.tensor([label for label, _ in sorted(self.slots)]), []
        for student in self.config.evaluate.students:
            for seed in range(self.config.evaluate.seeds):
                network = build_network(
                    student, num_classes=len(self.context.data.train.class_names),
                    image_size=self.train.size, channels=3, seed=seed,
                )  # fmt: skip
                epochs = [self.labelled[at % len(self.labelled)] for at in range(self.config.training_epochs)]
                network = by_torch_layers(network)
                found.append(train_and_judge(network, self.paths, labels, self._recipe(), epochs, self.val))
        self._accuracy["reference"] = 100 * sum(found) / len(found)

    def _recipe(self) -> Recipe:
        section, kind = self.config.relabel, "tensor" if self.train.size >= 224 else "pil"
        return Recipe(
            kind, self.train.mean, self.train.std, section.crop_scale, rand_augment=section.rand_augment
        )


def reference_stages(context: StageContext, folder: Path, accuracy: dict[str, float]) -> Iterator[Stage]:
    """The stages that have a straightforward form, to be called in order.

    Args:
        context: of a finished run of ours, whose observers are taken.
        folder: for its files.
        accuracy: gets the students'.
    """
    if list(context.config.evaluate.rows) != ["condensed"] or context.data.train.channels != 3:
        raise SystemExit("the reference is for evaluate.rows=[condensed] and colour: give --no-reference")
    run = ReferenceRun(context, folder, accuracy)
    yield "statistics", run.statistics
    if context.config.init.kind == "mosaic":
        yield "init", run.init
    else:
        run.real()
    yield from ((name, partial(getattr(run, name))) for name in ("recover", "relabel", "evaluate"))
