"""The stored views of a condensed set as a stream of batches, for PyTorch's DataLoader and DDP.

B views of a batch, V of an epoch, C channels, H W pixels, K classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, distributed
from torch.utils.data import IterableDataset, get_worker_info

from edc_ray.core.seeding import draws
from edc_ray.data.condensed.images import LoadedEpoch, StoredViews
from edc_ray.data.condensed.shard_files import DEFAULT_CACHE
from edc_ray.errors import ConfigError

# BatchNorm needs two images.
_FEWEST = 2


class ViewBatch(NamedTuple):
    """Mixed, normalised views float32 [B, C, H, W], logits float32 [B, K] and labels of their own images
    int64 [B], and the epoch and step of the batch."""

    image: Tensor
    logits: Tensor
    label: Tensor
    epoch: int
    step: int


class _Shown(NamedTuple):
    """A shown epoch: its number, the stored epoch, the order of its rows."""

    number: int
    epoch: LoadedEpoch
    order: np.ndarray


class CondensedDataset(IterableDataset[ViewBatch]):
    """Batches of stored views, one epoch after another.

    Use it as `DataLoader(dataset, batch_size=None, num_workers=...)`. Any number of workers gives the same
    order. An iteration covers all epochs, from the place that `load_state_dict` set or from the beginning.
    While the batches of an epoch are rendered, a thread reads the next one.

    In a DDP group all processes take the same number of steps and share each step's rows: in every epoch
    exactly one process gets each view. If fewer than two rows a process are left, they join the step before.

    Each process that iterates needs at most this memory, however many epochs are stored:

        C H W           bytes for each image (forked workers share them)
      + 12 K + 2,048    bytes for each view of an epoch: labels of two epochs in half precision, their views'
                        parameters, and decoded labels of one in single precision
      + 20 K            bytes for each view that is decoded at once, with any codec but fp16: those of an
                        epoch, at most `core.labels.codec.ROWS_AT_ONCE`
      + three times the largest row group, uncompressed: one epoch of a run; 16,384 labels (or one epoch if
                        that is more) of a set that `edc-ray compress` wrote
      + the largest file, if it is neither local nor cached
      + a few times the batch that is rendered
      + half a mebibyte: a file's metadata, names of 1,000 classes, buffers.

    Opening it takes twice the images, and a few copies of one unit of them.

    Args:
        url: of a run, or of a set that `edc-ray compress` or `import` wrote; local, memory://, s3://, ...
        storage_options: fsspec's.
        batch_size: views in one process's batch.
        num_epochs: to show; None: the stored ones. Beyond them, stored epochs are shown again in new batches.
        shuffle_seed: of the order of each epoch's views, the same in all processes. None: stored order.
        rank, world_size: of this process in its group; None: those of torch.distributed, if it runs.
        cache: local folder of copies of remote files; None: no copies.
        drop_last: leave out a step with fewer views than the others.

    Attributes:
        views: images, class_names, mean, std; loads and renders epochs.
        num_epochs: to show.

    Raises:
        ArtifactError: see StoredViews.
        ConfigError: the rank does not exist, a size is below 1, or an epoch has fewer views than processes.
    """

    def __init__(
        self,
        url: str,
        storage_options: dict[str, Any] | None = None,
        *,
        batch_size: int = 100,
        num_epochs: int | None = None,
        shuffle_seed: int | None = 0,
        rank: int | None = None,
        world_size: int | None = None,
        cache: str | None = DEFAULT_CACHE,
        drop_last: bool = False,
    ) -> None:
        self.views = StoredViews(url, storage_options, cache)
        stored = len(self.views.epochs.numbers)
        self.num_epochs = stored if num_epochs is None else num_epochs
        in_group = distributed.is_available() and distributed.is_initialized()
        self._rank = rank if rank is not None else distributed.get_rank() if in_group else 0
        group_size = distributed.get_world_size() if in_group else 1
        self._world_size = group_size if world_size is None else world_size
        self._batch_size, self._seed, self._drop_last = batch_size, shuffle_seed, drop_last
        group = self._world_size
        sizes = {"batch_size": self._batch_size, "world_size": group, "num_epochs": self.num_epochs}
        for name, size in sizes.items():
            if size < 1:
                raise ConfigError(f"{name} is too small", found=size, expected="at least 1")
        if not 0 <= self._rank < group:
            raise ConfigError(f"rank {self._rank} does not exist", expected=f"a rank of 0..{group - 1}")
        fewest = min(map(self.views.epochs.count, self.views.epochs.numbers))
        if fewest < group:
            what = "an epoch has fewer views than the group has processes"
            raise ConfigError(what, found=f"{fewest} views", expected=f"at least {group}")
        self._start = self._next = (0, 0)

    def __repr__(self) -> str:
        return f"CondensedDataset: {len(self)} batches of up to {self._batch_size}, {self.num_epochs} epochs"

    def __len__(self) -> int:
        """Batches of an iteration."""
        epoch, step = self._start
        return sum(len(self._steps(number)) for number in range(epoch, self.num_epochs)) - step

    def __iter__(self) -> Iterator[ViewBatch]:
        """The batches of this process. A DataLoader's worker gives every n-th of them."""
        worker = get_worker_info()
        turn, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        self._next = self._start
        for place, (loaded, step, rows) in enumerate(self._places()):
            if place % workers == turn:
                batch = ViewBatch(*self.views.render(loaded.epoch, rows), loaded.number, step)
                self._next = self._after(loaded.number, step)
                yield batch

    def state_dict(self, after: ViewBatch | None = None) -> dict[str, Any]:
        """The place from which to resume, as JSON values.

        It lies behind `after`, or behind the last batch that this process yielded. With workers, only the
        training loop knows the last batch that was used.
        """
        epoch, step = self._next if after is None else self._after(after.epoch, after.step)
        return {"epoch": epoch, "step": step, "stream": self._stream()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume the next iterations from a place, with any number of workers.

        Raises:
            ConfigError: the place does not exist, or lies within an epoch and the batches differ.
        """
        epoch, step = int(state["epoch"]), int(state["step"])
        if step and state["stream"] != self._stream():
            raise ConfigError(
                "a stream with other batches cannot resume in the middle of an epoch",
                found=state["stream"], expected=self._stream(), next="begin at an epoch: step 0",
            )  # fmt: skip
        last = len(self._steps(epoch)) if 0 <= epoch < self.num_epochs else 1
        if not (0 <= epoch <= self.num_epochs and 0 <= step < last):
            raise ConfigError(
                f"epoch {epoch}, step {step} does not exist", expected=f"epochs up to {self.num_epochs}"
            )
        self._start = self._next = (epoch, step)

    def _places(self) -> Iterator[tuple[_Shown, int, np.ndarray]]:
        """Every batch to come: its epoch in memory, its step there, its rows."""
        first, first_step = self._start
        with ThreadPoolExecutor(1, thread_name_prefix="next-epoch") as reader:
            coming = reader.submit(self._load, first) if first < self.num_epochs else None
            while coming is not None:
                shown = coming.result()
                later = shown.number + 1
                coming = reader.submit(self._load, later) if later < self.num_epochs else None
                steps = self._steps(shown.number)
                for step in range(first_step if shown.number == first else 0, len(steps)):
                    yield shown, step, shown.order[steps[step]][self._rank :: self._world_size]

    def _load(self, epoch: int) -> _Shown:
        loaded = self.views.load(self._stored(epoch))
        count = len(loaded.rows)
        order = np.arange(count)
        if self._seed is not None:
            order = draws(self._seed, "read", epoch).permutation(count)
        return _Shown(epoch, loaded, order)

    def _stored(self, epoch: int) -> int:
        numbers = self.views.epochs.numbers
        return numbers[epoch % len(numbers)]

    def _steps(self, epoch: int) -> list[slice]:
        count = self.views.epochs.count(self._stored(epoch))
        return steps_of(count, self._batch_size, self._world_size, drop_last=self._drop_last)

    def _after(self, epoch: int, step: int) -> tuple[int, int]:
        return (epoch, step + 1) if step + 1 < len(self._steps(epoch)) else (epoch + 1, 0)

    def _stream(self) -> dict[str, Any]:
        """Everything that decides which views a step has."""
        return {
            "labels": self.views.fingerprint, "batch_size": self._batch_size, "drop_last": self._drop_last,
            "world_size": self._world_size, "shuffle_seed": self._seed,
        }  # fmt: skip


def steps_of(count: int, batch_size: int, world_size: int, *, drop_last: bool = False) -> list[slice]:
    """The rows of each step of an epoch, over all processes, each of which gets `batch_size` in a step.

    With `drop_last`, a last step with fewer rows is left out, unless it is the only one.
    """
    at_once = batch_size * world_size
    begins = list(range(0, count, at_once))
    end, rest = count, count - begins[-1]
    if len(begins) > 1 and (rest < _FEWEST * world_size or drop_last) and rest < at_once:
        last = begins.pop()
        end = last if drop_last else count
    return [slice(*pair) for pair in itertools.pairwise([*begins, end])]
