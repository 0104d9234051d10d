"""The rows of a result: where each row's images of an epoch come from, and their labels.

condensed    the condensed images with their stored labels, or labelled here (relabel.labels=online)
init         the images before recovery
random       real images of the same number per class, drawn for each student seed
random_hard  the same images with hard labels; not mixed: a class label does not say what was pasted
full         all real images: every epoch shows the next ones, as many as there are condensed images

If students train for more epochs than are labelled (evaluate.epochs), every row but `full` shows them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from edc_ray.config.run import RunConfig
from edc_ray.core.seeding import draws
from edc_ray.core.views.views import EpochViews, draw_epoch_views, joined_views
from edc_ray.data.condensed.images import CondensedViews
from edc_ray.data.condensed.label_rows import rounded_by
from edc_ray.data.real.ahead import one_ahead
from edc_ray.stages.relabel.stage import label_views, view_settings
from edc_ray.stages.units.context import RowLabels, StageContext
from edc_ray.stages.units.image_shards import Slot, read_stage_images, slot_hashes, slots_of

HARD_ROWS = frozenset({"random_hard"})
_STAGE_OF: dict[str, Literal["init", "recover"]] = {"condensed": "recover", "init": "init"}

# The epoch whose draws make the views; uint8 images [M, C, S, S] on the device; (class, ipc_id) of each.
Shown = tuple[int, Tensor, list[Slot]]


@dataclass(frozen=True)
class EpochOfRow:
    """One epoch: uint8 images [M, C, S, S], N views of them, their logits [N, K] and own labels [N]."""

    images: Tensor
    views: EpochViews
    logits: Tensor
    labels: Tensor


def joined(epochs: Sequence[EpochOfRow]) -> EpochOfRow:
    """Epochs of one row as a single one, which shows their views one after the other."""
    images = [epoch.images for epoch in epochs]
    if all(each is images[0] for each in images):
        images, first_image = images[:1], [0] * len(epochs)
    else:
        first_image = [sum(map(len, images[:place])) for place in range(len(epochs))]
    return EpochOfRow(
        images[0] if len(images) == 1 else torch.cat(images),
        joined_views([epoch.views for epoch in epochs], first_image),
        torch.cat([epoch.logits for epoch in epochs]),
        torch.cat([epoch.labels for epoch in epochs]),
    )


def shown_epoch(config: RunConfig, number: int) -> int:
    """The labelled epoch that students see in an epoch of their training.

    The first pass shows the labelled epochs in their order. If students train for more (evaluate.epochs),
    further passes show them in the same order, or with evaluate.epoch_reuse=shuffled in an order drawn for
    the pass, the same for all rows and students. Every epoch of training draws new batches.
    """
    labelled = config.relabel.epochs
    turn, place = divmod(number, labelled)
    if turn == 0 or config.evaluate.epoch_reuse == "in_turn":
        return place
    return int(draws(config.seed, "evaluate", "reuse", turn).permutation(labelled)[place])


class StoredRow:
    """The condensed images; views and labels as relabel stored them."""

    hard = False

    def __init__(self, context: StageContext) -> None:
        self._stored = CondensedViews(context.store)
        self._config, self.device = context.config, context.device
        self._images = torch.from_numpy(self._stored.images).to(context.device)

    def epoch(self, number: int) -> EpochOfRow:
        self._stored.set_epoch(shown_epoch(self._config, number))
        rows = self._stored.rows
        logits, labels = torch.from_numpy(rows.logits).float(), torch.from_numpy(rows.label)
        return EpochOfRow(self._images, self._stored.views, logits.to(self.device), labels.to(self.device))


@dataclass
class LabelledRow:
    """Some images. Views are drawn and labelled on demand, as relabel does it.

    Args:
        shown: epoch of training -> what it shows.
        hard: class labels only.
        shared: labels, if several students see the images.

    Deviations:
        Online, the official programs draw other views for each student; ours are those that relabel would
        store, so that both ways give the same student. Their labels keep float32 (CIFAR-10: float16), ours
        are rounded by relabel.codec (whose principal components are then those of one epoch's labels).
    """

    context: StageContext
    shown: Callable[[int], Shown]
    hard: bool = False
    shared: RowLabels | None = None

    def epoch(self, number: int) -> EpochOfRow:
        context = self.context
        number, images, slots = self.shown(number)
        settings = view_settings(context)
        if self.hard:
            settings = settings.model_copy(update={"mix": "none"})
        views = draw_epoch_views(context.config.seed, number, slots, images.shape[-1], settings)
        labels = torch.tensor([slots[image][0] for image in views.image], device=context.device)
        if self.hard:
            return EpochOfRow(images, views, torch.zeros(len(views), 1, device=context.device), labels)

        def label() -> np.ndarray:
            return rounded_by(context.config.relabel.codec, label_views(context, images, views))

        if self.shared is not None:
            values = self.shared.get(number, label, context.one_at_a_time())
        else:
            with context.one_at_a_time():
                values = label()
        return EpochOfRow(images, views, torch.from_numpy(values).float().to(context.device), labels)


def _all_real_images(context: StageContext, student_seed: int) -> Callable[[int], Shown]:
    """The images of each epoch of `full`: all real ones, in an order drawn for each pass over them."""
    train = context.data.train
    count = context.config.ipc * len(train.class_names)

    @lru_cache(1)
    def order(turn: int) -> np.ndarray:
        return draws(context.config.seed, "evaluate", "full", student_seed, turn).permutation(len(train))

    def shown(number: int) -> Shown:
        chosen = []
        for position in range(number * count, (number + 1) * count):
            turn, place = divmod(position, len(train))
            chosen.append(int(order(turn)[place]))
        images = context.pixels(train, np.array(chosen))
        return number, images, [(int(train.labels[index]), index) for index in chosen]

    return shown


Row = StoredRow | LabelledRow


def epochs_of(row: Row, count: int) -> Iterator[EpochOfRow]:
    """The first epochs of a row; stored labels of the next one are read while a student sees this one."""
    if isinstance(row, StoredRow):
        return one_ahead(row.epoch, range(count), row.device)
    return map(row.epoch, range(count))


def row_of(context: StageContext, name: str, student_seed: int) -> Row:
    if _is_stored(context, name):
        return StoredRow(context)
    if name == "full":
        return LabelledRow(context, _all_real_images(context, student_seed))
    if name in _STAGE_OF:
        rows = read_stage_images(context, _STAGE_OF[name])
        images, slots = torch.from_numpy(np.array(rows.images)).to(context.device), slots_of(rows)
        # The images are the same for all student seeds.
        observers = context.observer_digests(context.config.observers_of("relabel"))
        key = name, str(row_digest(context, name)), tuple(sorted(observers.items()))
        shared = context.labelled.of_row(key)
    else:
        slots, shared = random_slots(context, student_seed), None
        images = context.pixels(context.data.train, np.array([index for _, index in slots]))

    def shown(number: int) -> Shown:
        return shown_epoch(context.config, number), images, slots

    return LabelledRow(context, shown, hard=name in HARD_ROWS, shared=shared)


def _is_stored(context: StageContext, name: str) -> bool:
    return name == "condensed" and context.config.relabel.labels == "stored"


def labels_are_made(context: StageContext, name: str) -> bool:
    """Whether observers label a row while students train on it."""
    return name not in HARD_ROWS and not _is_stored(context, name)


def random_slots(context: StageContext, student_seed: int) -> list[Slot]:
    """(class, index) of ipc real images of each class, drawn for a student seed; small classes repeat."""
    train, slots = context.data.train, []
    for label in range(len(train.class_names)):
        members = train.class_indices(label)
        stream = draws(context.config.seed, "evaluate", "random", student_seed, label)
        chosen = np.resize(members[stream.permutation(len(members))], context.config.ipc)
        slots += [(label, int(index)) for index in chosen]
    return slots


def row_digest(context: StageContext, name: str) -> Any:
    """Digest of the images and stored labels that a row reads."""
    if _is_stored(context, name):
        return [shard.sha256 for shard in context.manifest("relabel").shards]
    if name in _STAGE_OF:
        return sorted(slot_hashes(context, _STAGE_OF[name]).items())
    return context.data.train.content_hash
