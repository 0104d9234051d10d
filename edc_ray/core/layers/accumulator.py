"""Statistics of the real data, summed over batches so that partial sums merge by addition.

K classes in the sums, D the columns of all layers side by side: each layer has its C channels and, for a
convolution, its P patches. Sums are float64, those of all quantities in one tensor, which a batch is added to
by few operations. Which classes there are is known to the host, so a GPU is never asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from edc_ray.core.layers.image_statistics import image_statistics
from edc_ray.core.layers.moments import LayerStatistics

LayerKind = Literal["bn", "conv"]

# Sums per class, of each image's own quantities.
_CLASS_SUMS = ("mean", "mean_square", "variance")
_IMAGES = "*|images|"


class StatisticsAccumulator:
    """Sums of one observer's statistics over real images, and the two definitions made of them.

    Official: the global variance is the mean over data batches of the variance within the batch; the class
    variance is the mean over images of the variance within the image. Pooled: the variance of all pixels of
    all images. The means agree. `kinds` are in module order (`LayerTaps.kinds`).

    Deviations:
        the official code has its own definition only. No batch of images can have its class variance, which
        leaves out how images differ; `edc` matches the pooled one. It divides by a fixed size of the training
        set; here images are counted.
    """

    def __init__(self, kinds: Mapping[str, LayerKind], patch_side: int) -> None:
        self.kinds = dict(kinds)
        self.patch_side = patch_side
        self._widths: dict[str, tuple[int, int]] = {}  # layer -> (channels, patches)
        self._measured_widths: dict[str, tuple[int, int]] = {}  # of the last quantities
        self.class_ids = np.zeros(0, dtype=np.int64)  # [K], of the classes seen, ascending
        self.counts = np.zeros(0)  # [K], images seen of each
        self._sums = torch.zeros(len(_CLASS_SUMS), 0, 0, dtype=torch.float64)  # [quantities, K, D]
        self._batch_variance = torch.zeros(0, dtype=torch.float64)  # [D], weighted by images

    def add(self, activations: Mapping[str, Tensor], labels_B: Tensor) -> None:
        """Adds one data batch: each layer's input [B, C, H, W], always of the same size, and labels [B]."""
        rows = {
            name: image_statistics(activations[name], self.patch_side if kind == "conv" else None)
            for name, kind in self.kinds.items()
        }
        self.add_measured(rows, labels_B)

    def add_measured(self, measured: Mapping[str, LayerStatistics], labels_B: Tensor) -> None:
        """Adds one data batch whose statistics of each image are known: see `image_statistics`."""
        self.add_quantities(self.quantities(measured), labels_B)

    def quantities(self, measured: Mapping[str, LayerStatistics]) -> Tensor:
        """The statistics of each image as float64 [quantities, B, D]. Remembers the sizes of the layers."""
        rows = [measured[name] for name in self.kinds]
        self._measured_widths = dict(zip(self.kinds, map(_widths, rows), strict=True))
        # Rounded first: float64 sums of float32 numbers are almost exact, however batches are dealt.
        mean_BD, variance_BD = (
            torch.cat([part for each in rows for part in each.quantities[kind::2]], 1).float().double()
            for kind in (0, 1)
        )
        return torch.stack([mean_BD, mean_BD.square(), variance_BD])

    # Sums made in inference mode could not be added to outside of it.
    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def add_quantities(self, quantities: Tensor, labels_B: Tensor) -> None:
        """Adds one data batch from what `quantities` gave.

        Labels lie on the CPU. On CUDA `torch.use_deterministic_algorithms(True)` alone fixes the last bits of
        the class sums.
        """
        mean_BD, _, variance_BD = quantities
        class_ids, positions, counts = np.unique(labels_B.numpy(), return_inverse=True, return_counts=True)
        partial = StatisticsAccumulator(self.kinds, self.patch_side)
        partial._widths = self._measured_widths
        partial.class_ids, partial.counts = class_ids.astype(np.int64), counts.astype(np.float64)
        empty = mean_BD.new_zeros(len(_CLASS_SUMS), len(class_ids), mean_BD.shape[1])
        partial._sums = empty.index_add_(1, _on(mean_BD, positions), quantities)
        # Moments of the batch follow from those of its images, which have one size.
        partial._batch_variance = variance_BD.sum(0) + mean_BD.var(0, correction=0) * len(mean_BD)
        self.merge(partial)

    def merge(self, other: StatisticsAccumulator) -> None:
        """Adds the sums of another part of the data. The order of merging fixes the last bits.

        Raises:
            ValueError: the layers or their sizes differ.
        """
        # The columns follow the order of the layers, so the order must agree too.
        if list(other.kinds.items()) != list(self.kinds.items()) or other.patch_side != self.patch_side:
            raise ValueError("statistics of different layers or patch sides cannot be merged")
        if not other._widths:
            return
        if not self._widths:
            self._widths = dict(other._widths)
            self._batch_variance = torch.zeros_like(other._batch_variance)
            self._sums = other._sums[:, :0]
        if self._widths != other._widths:
            different = next(name for name in self._widths if self._widths[name] != other._widths[name])
            raise ValueError(
                f"layer {different!r} had (channels, patches) {self._widths[different]} "
                f"and now {other._widths[different]}; images must be of one size"
            )
        self._make_room(np.union1d(self.class_ids, other.class_ids))
        rows = np.searchsorted(self.class_ids, other.class_ids)
        self.counts[rows] += other.counts
        self._sums.index_add_(1, _on(self._sums, rows), other._sums.to(self._sums.device))
        self._batch_variance += other._batch_variance.to(self._batch_variance.device)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything as float64 arrays under "layer|kind|quantity"; classes under "*|images|..."."""
        arrays = {
            f"{_IMAGES}class_id": self.class_ids.astype(np.float64),
            f"{_IMAGES}count": self.counts.copy(),
            f"{_IMAGES}patch_side": np.array(self.patch_side, dtype=np.float64),
        }
        columns = {**dict(zip(_CLASS_SUMS, self._sums, strict=True)), "batch_variance": self._batch_variance}
        for name, kind in self.kinds.items():
            for part, where in self._columns(name).items():
                for quantity, total in columns.items():
                    arrays[f"{name}|{kind}|{part}_{quantity}"] = total[..., where].cpu().numpy().copy()
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> StatisticsAccumulator:
        """Inverse of `to_arrays`; the order of the keys is the order of the layers."""
        kinds: dict[str, LayerKind] = {}
        for key in arrays:
            name, kind, _ = key.rsplit("|", 2)
            if kind == "bn" or kind == "conv":
                kinds[name] = kind
        made = cls(kinds, int(arrays[f"{_IMAGES}patch_side"]))
        made.class_ids = arrays[f"{_IMAGES}class_id"].astype(np.int64)
        made.counts = arrays[f"{_IMAGES}count"].copy()
        if not len(made.class_ids):
            return made
        parts = [(name, part) for name, kind in kinds.items() for part in _parts(kind)]

        def joined(quantity: str) -> Tensor:
            found = [arrays[f"{name}|{kinds[name]}|{part}_{quantity}"] for name, part in parts]
            return torch.tensor(np.concatenate(found, axis=-1))

        made._sums = torch.stack([joined(quantity) for quantity in _CLASS_SUMS])
        made._batch_variance = joined("batch_variance")
        sizes = {key: arrays[f"{key[0]}|{kinds[key[0]]}|{key[1]}_batch_variance"].size for key in parts}
        made._widths = {name: (sizes[name, "channel"], sizes.get((name, "patch"), 0)) for name in kinds}
        return made

    def official_global(self, layer: str) -> LayerStatistics:
        """Mean over images, and mean over data batches (weighted by images) of the variance within each.

        For a BatchNorm the official code matches the layer's running buffers instead: see
        `LayerTaps.running_statistics`.
        """
        total = self.counts.sum()
        return self._split(layer, self._sums[0].sum(0) / total, self._batch_variance / total)

    def pooled_global(self, layer: str) -> LayerStatistics:
        """Mean and variance of all pixels of all images."""
        total = self.counts.sum()
        mean, mean_square, variance = (each.sum(0) / total for each in self._sums)
        return self._split(layer, mean, variance + _between(mean, mean_square))

    def official_class(self, layer: str) -> LayerStatistics:
        """Per class [K, ...], in the order of `class_ids`: mean, and mean variance within an image."""
        mean, _, variance = self._class_means()
        return self._split(layer, mean, variance)

    def pooled_class(self, layer: str) -> LayerStatistics:
        """Per class [K, ...], in the order of `class_ids`: mean and variance of all its images' pixels."""
        mean, mean_square, variance = self._class_means()
        return self._split(layer, mean, variance + _between(mean, mean_square))

    def _class_means(self) -> Tensor:
        return self._sums / _on(self._sums, self.counts).unsqueeze(1)

    def _make_room(self, class_ids: np.ndarray) -> None:
        if len(class_ids) == len(self.class_ids):
            return
        rows = np.searchsorted(class_ids, self.class_ids)
        counts, sums = np.zeros(len(class_ids)), self._sums
        counts[rows] = self.counts
        self.class_ids, self.counts = class_ids, counts
        wider = sums.new_zeros(len(sums), len(class_ids), sums.shape[2])
        self._sums = wider.index_copy_(1, _on(sums, rows), sums)

    def _columns(self, layer: str) -> dict[str, slice]:
        names = list(self.kinds)
        widths = [self._widths.get(name, (0, 0)) for name in names[: names.index(layer) + 1]]
        channels, patches = widths.pop()
        start = sum(map(sum, widths))
        middle = start + channels
        where = {"channel": slice(start, middle), "patch": slice(middle, middle + patches)}
        return {part: where[part] for part in _parts(self.kinds[layer])}

    def _split(self, layer: str, mean: Tensor, variance: Tensor) -> LayerStatistics:
        pieces = [part[..., where] for where in self._columns(layer).values() for part in (mean, variance)]
        return LayerStatistics(*pieces)


def _parts(kind: LayerKind) -> tuple[str, ...]:
    return ("channel", "patch") if kind == "conv" else ("channel",)


def _on(tensor: Tensor, values: np.ndarray) -> Tensor:
    """Values of the host, on the device of a tensor."""
    return torch.from_numpy(values).to(tensor.device)


def _widths(statistics: LayerStatistics) -> tuple[int, int]:
    patches = 0 if statistics.patch_mean is None else statistics.patch_mean.shape[-1]
    return statistics.channel_mean.shape[-1], patches


def _between(mean: Tensor, mean_square: Tensor) -> Tensor:
    """Variance between images; rounding must not make it negative."""
    return (mean_square - mean.square()).clamp(min=0)
