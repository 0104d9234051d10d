"""The rows of a result: where each row's images of an epoch come from, and their labels.

condensed    the condensed images with their stored labels, or labelled here (relabel.labels=online)
init         the images before recovery
random       real images of the same number per class, drawn for each student seed
random_hard  the same images with hard labels; not mixed, for a class label does not tell what was pasted
full         all real images: every epoch shows the next ones, as many as there are condensed images

Where students train for more epochs than are labelled (evaluate.epochs), every row but `full` shows them
again, as `labelled_epochs.shown_epoch` says.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from edc_ray.core.seeding import draws
from edc_ray.core.views.views import EpochViews, draw_epoch_views
from edc_ray.data.condensed.images import CondensedViews
from edc_ray.data.condensed.label_tables import rounded_by
from edc_ray.data.real.ahead import one_ahead
from edc_ray.stages.relabel.stage import label_views, slots_of, view_settings
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.image_shards import Slot, read_stage_images, slot_hashes
from edc_ray.stages.units.labelled_epochs import shown_epoch

HARD_ROWS = frozenset({"random_hard"})


@dataclass(frozen=True)
class EpochOfRow:
    """One epoch: uint8 images [M, C, S, S], N views of them, their logits [N, K] and own labels [N]."""

    images: Tensor
    views: EpochViews
    logits: Tensor
    labels: Tensor


class Row(Protocol):
    """Images and labels of one row of the result. `hard`: students see class labels only."""

    hard: bool

    def epoch(self, number: int) -> EpochOfRow: ...


class StoredRow:
    """The condensed images; views and labels as relabel stored them."""

    hard = False

    def __init__(self, context: StageContext) -> None:
        self._stored = CondensedViews(context.store)
        self._config, self._device = context.config, context.device
        self._images = torch.from_numpy(self._stored.images).to(context.device)

    def epoch(self, number: int) -> EpochOfRow:
        self._stored.set_epoch(shown_epoch(self._config, number))
        rows = self._stored.rows
        logits, labels = torch.from_numpy(rows.logits).float(), torch.from_numpy(rows.label)
        return EpochOfRow(self._images, self._stored.views, logits.to(self._device), labels.to(self._device))


def epochs_of(row: Row, count: int) -> Iterator[EpochOfRow]:
    """The first epochs of a row; stored labels of the next one are read while a student sees this one."""
    if isinstance(row, StoredRow):
        return one_ahead(row.epoch, range(count))
    return map(row.epoch, range(count))


class LabelledRow:
    """Any images. Views are drawn and labelled on demand, as relabel does it.

    Args:
        context: of the process.
        images: uint8 [M, C, S, S].
        slots: (class, ipc_id) of each, by which its views are drawn.
        hard: class labels only.
        shared: what the images are, where several students see them: they then share their labels.

    Deviations:
        Online, the official programs draw other views for each student; ours are those that relabel would
        store, so that both ways give the same student. Their labels keep float32 (CIFAR-10: float16), ours
        are rounded by relabel.codec (whose principal components are then those of one epoch's labels).
    """

    def __init__(
        self,
        context: StageContext,
        images: np.ndarray,
        slots: list[Slot],
        *,
        hard: bool = False,
        shared: Hashable = None,
    ) -> None:
        self.hard = hard
        self._shared = shared
        self._context = context
        self._images = torch.from_numpy(np.array(images)).to(context.device)
        self._slots = slots

    def epoch(self, number: int) -> EpochOfRow:
        number = shown_epoch(self._context.config, number)
        return labelled_epoch(
            self._context, number, self._images, self._slots, hard=self.hard, shared=self._shared
        )


class FullRow:
    """All real images, in an order drawn for each pass over them."""

    hard = False

    def __init__(self, context: StageContext, student_seed: int, images_per_epoch: int) -> None:
        self._context, self._seed, self._count = context, student_seed, images_per_epoch

    def epoch(self, number: int) -> EpochOfRow:
        train = self._context.data.train
        chosen = [
            self._index(position) for position in range(number * self._count, (number + 1) * self._count)
        ]
        images = torch.from_numpy(train.fetch(chosen)).to(self._context.device)
        slots = [(int(train.labels[index]), index) for index in chosen]
        return labelled_epoch(self._context, number, images, slots)

    def _index(self, position: int) -> int:
        turn, place = divmod(position, len(self._context.data.train))
        return int(self._order(turn)[place])

    def _order(self, turn: int) -> np.ndarray:
        if getattr(self, "_turn", None) != turn:
            stream = draws(self._context.config.seed, "evaluate", "full", self._seed, turn)
            self._turn, self._shuffled = turn, stream.permutation(len(self._context.data.train))
        return self._shuffled


def labelled_epoch(
    context: StageContext,
    number: int,
    images: Tensor,
    slots: list[Slot],
    *,
    hard: bool = False,
    shared: Hashable = None,
) -> EpochOfRow:
    """Draws one epoch's views of some images and labels them with the observers of relabel.

    Arguments as those of LabelledRow.
    """
    settings = view_settings(context)
    if hard:
        settings = settings.model_copy(update={"mix": "none"})
    views = draw_epoch_views(context.config.seed, number, slots, images.shape[-1], settings)
    labels = torch.tensor([slots[image][0] for image in views.image], device=context.device)
    if hard:
        logits = torch.zeros(len(views), 1, device=context.device)
    else:
        label = partial(_labelled, context, images, views)
        values = label() if shared is None else context.labelled.get(shared, number, label)
        logits = torch.from_numpy(values).float().to(context.device)
    return EpochOfRow(images, views, logits, labels)


def _labelled(context: StageContext, images: Tensor, views: EpochViews) -> np.ndarray:
    return rounded_by(context.config.relabel.codec, label_views(context, images, views))


def row_of(context: StageContext, name: str, student_seed: int) -> Row:
    """The row of a name, for one student seed."""
    if name == "condensed" and context.config.relabel.labels == "stored":
        return StoredRow(context)
    if name in ("condensed", "init"):
        rows = read_stage_images(context, "recover" if name == "condensed" else "init")
        return LabelledRow(context, rows.images, slots_of(rows), shared=_shared(context, name))
    if name == "full":
        count = context.config.ipc * len(context.data.train.class_names)
        return FullRow(context, student_seed, count)
    train, slots = context.data.train, random_slots(context, student_seed)
    images = train.fetch([index for _, index in slots])
    return LabelledRow(context, images, slots, hard=name in HARD_ROWS)


def _shared(context: StageContext, name: str) -> Hashable:
    """A key of the labels of a row whose images do not depend on the student's seed."""
    observers = context.observer_digests(context.config.observers_of("relabel"))
    return name, str(row_digest(context, name)), tuple(sorted(observers.items()))


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
    if name == "condensed" and context.config.relabel.labels == "stored":
        return [shard.sha256 for shard in context.manifest("relabel").shards]
    if name in ("condensed", "init"):
        return sorted(slot_hashes(context, "recover" if name == "condensed" else "init").items())
    return context.data.train.content_hash
