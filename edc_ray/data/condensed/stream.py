"""The stored views of a condensed set as a stream of batches, for PyTorch's DataLoader and DDP.

B views of a batch, V of an epoch, C channels, H W pixels, K classes.
"""

from __future__ import annotations

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
    """Mixed, normalised views float32 [B, C, H, W], logits float32 [B, K], labels of their own images int64
    [B]; the epoch and the step in it to which the batch belongs."""

    image: Tensor
    logits: Tensor
    label: Tensor
    epoch: int
    step: int


class _Shown(NamedTuple):
    """An epoch as it is shown: its number, the stored epoch, the order of its rows."""

    number: int
    epoch: LoadedEpoch
    order: np.ndarray


class CondensedDataset(IterableDataset[ViewBatch]):
    """Batches of stored views, one epoch after another.

    For `DataLoader(dataset, batch_size=None, num_workers=...)`, which then passes the batches on as they are,
    in the same order for every number of workers. An iteration goes through all epochs, from the place that
    `load_state_dict` has set: where none was, from the beginning.

    An epoch's labels are read from the row groups that hold them. While its batches are rendered, a thread
    reads the next epoch. Files are checked against the manifest's hashes before anything in them is read
    (`data.condensed.shard_files`).

    In a DDP group all processes make the same number of steps. A step's rows are dealt out to them, so in
    every epoch each view comes to exactly one process; the last rows join the step before where they are less
    than two a process.

    Memory: in each process that iterates, for as many epochs as are stored, at most

        C H W           bytes for each image (forked workers share them)
      + 12 K + 2,048    bytes for each view of an epoch: labels of two epochs in half precision, their views'
                        parameters, and decoded labels of one in single precision
      + 20 K            bytes for each view that is decoded at once, of any codec but fp16: those of an epoch,
                        at most `core.labels.codec.ROWS_AT_ONCE`
      + three times the largest row group, uncompressed: one epoch of a run; of what `edc-ray compress` wrote
                        16,384 labels, or one epoch if that is more
      + the largest file, only where it is neither local nor cached
      + the batch that is rendered, a few times over
      + half a mebibyte: a file's metadata, names of 1,000 classes, buffers.

    To open it takes twice the images, and one unit of them in a few copies.

    Args:
        url: of a run, or of what `edc-ray compress` or `import` wrote; local, memory://, s3://, ...
        storage_options: fsspec's.
        batch_size: views of a batch of one process.
        num_epochs: to show; None: as many as are stored. Of more than are stored the first ones are shown
            again, in turn, in batches that are dealt anew.
        shuffle_seed: seed of the order of each epoch's views, the same in all processes. None: as stored.
        rank, world_size: of this process in its group; by default those of torch.distributed, if it runs.
        cache: local folder of copies of remote files; None: none are made.
        drop_last: leave out a step of fewer views than the others.

    Attributes:
        views: images, class_names, mean, std; loads and renders epochs.
        num_epochs: as shown.

    Raises:
        ArtifactError: see StoredViews.
        ConfigError: no such rank, a size below 1, or an epoch has fewer views than there are processes.
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
        self._check()
        self._start = self._next = (0, 0)

    def __len__(self) -> int:
        """Batches of an iteration."""
        epoch, step = self._start
        return sum(len(self._steps(number)) for number in range(epoch, self.num_epochs)) - step

    def __iter__(self) -> Iterator[ViewBatch]:
        """The batches of this process; in a worker of a DataLoader every n-th of them."""
        worker = get_worker_info()
        turn, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        self._next = self._start
        for place, (loaded, step, rows) in enumerate(self._places()):
            if place % workers == turn:
                batch = ViewBatch(*self.views.render(loaded.epoch, rows), loaded.number, step)
                self._next = self._after(loaded.number, step)
                yield batch

    def state_dict(self, after: ViewBatch | None = None) -> dict[str, Any]:
        """Where to go on, as JSON values.

        Args:
            after: the last batch that was used: with workers only who trains knows it. None: the last that
                this process has yielded.
        """
        epoch, step = self._next if after is None else self._after(after.epoch, after.step)
        return {"epoch": epoch, "step": step, "stream": self._stream()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next iterations where another one was; with any number of workers.

        Raises:
            ConfigError: in the middle of an epoch of other batches, or there is no such place.
        """
        epoch, step = int(state["epoch"]), int(state["step"])
        if step and state["stream"] != self._stream():
            raise ConfigError(
                "a stream of other batches cannot go on in the middle of an epoch",
                found=state["stream"], expected=self._stream(), next="begin at an epoch: step 0",
            )  # fmt: skip
        last = len(self._steps(epoch)) if 0 <= epoch < self.num_epochs else 1
        if not (0 <= epoch <= self.num_epochs and 0 <= step < last):
            raise ConfigError(
                f"there is no epoch {epoch}, step {step}", expected=f"epochs up to {self.num_epochs}"
            )
        self._start = self._next = (epoch, step)

    def _places(self) -> Iterator[tuple[_Shown, int, np.ndarray]]:
        """Every batch that is still to come: its epoch in memory, its step there, its rows."""
        first, first_step = self._start
        with ThreadPoolExecutor(1, thread_name_prefix="next-epoch") as reader:
            coming = [reader.submit(self._load, epoch) for epoch in self._epochs_from(first)[:1]]
            for epoch in self._epochs_from(first):
                shown = coming.pop().result()
                coming = [reader.submit(self._load, later) for later in self._epochs_from(epoch + 1)[:1]]
                steps = self._steps(epoch)
                for step in range(first_step if epoch == first else 0, len(steps)):
                    yield shown, step, shown.order[steps[step]][self._rank :: self._world_size]

    def _epochs_from(self, first: int) -> range:
        return range(first, self.num_epochs)

    def _load(self, epoch: int) -> _Shown:
        loaded = self.views.load(self._stored(epoch))
        count = len(loaded.rows)
        if self._seed is None:
            return _Shown(epoch, loaded, np.arange(count))
        return _Shown(epoch, loaded, draws(self._seed, "read", epoch).permutation(count))

    def _stored(self, epoch: int) -> int:
        numbers = self.views.epochs.numbers
        return numbers[epoch % len(numbers)]

    def _steps(self, epoch: int) -> list[slice]:
        count = self.views.epochs.count(self._stored(epoch))
        return steps_of(count, self._batch_size, self._world_size, drop_last=self._drop_last)

    def _after(self, epoch: int, step: int) -> tuple[int, int]:
        return (epoch, step + 1) if step + 1 < len(self._steps(epoch)) else (epoch + 1, 0)

    def _stream(self) -> dict[str, Any]:
        """What decides which views a step has."""
        return {
            "labels": self.views.fingerprint, "batch_size": self._batch_size, "drop_last": self._drop_last,
            "world_size": self._world_size, "shuffle_seed": self._seed,
        }  # fmt: skip

    def _check(self) -> None:
        sizes = {
            "batch_size": self._batch_size,
            "world_size": self._world_size,
            "num_epochs": self.num_epochs,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ConfigError(f"{name} is too small", found=size, expected="at least 1")
        if not 0 <= self._rank < self._world_size:
            raise ConfigError(
                f"there is no rank {self._rank}", expected=f"a rank of 0..{self._world_size - 1}"
            )
        fewest = min(self.views.epochs.count(number) for number in self.views.epochs.numbers)
        if fewest < self._world_size:
            raise ConfigError(
                "an epoch has fewer views than there are processes",
                found=f"{fewest} views", expected=f"at least {self._world_size}",
            )  # fmt: skip


def steps_of(count: int, batch_size: int, world_size: int, *, drop_last: bool = False) -> list[slice]:
    """The rows of each step of an epoch, of all processes together.

    Args:
        count: rows of the epoch, at least one a process.
        batch_size: rows of a process in a step.
        world_size: processes.
        drop_last: leave out a last step of fewer rows, unless it is the only one.
    """
    at_once = batch_size * world_size
    begins = list(range(0, count, at_once))
    end = count
    rest = count - begins[-1]
    if len(begins) > 1 and (rest < _FEWEST * world_size or drop_last) and rest < at_once:
        last = begins.pop()
        end = last if drop_last else count
    return [slice(*pair) for pair in zip(begins, [*begins[1:], end], strict=True)]
