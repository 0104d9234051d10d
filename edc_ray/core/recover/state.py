"""What the recover loop takes and returns, apart from its settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from edc_ray.core.layers.accumulator import LayerKind
from edc_ray.core.layers.measured_input import StatisticKernels, wide
from edc_ray.core.layers.measured_network import MeasuredNetwork
from edc_ray.core.layers.moments import LayerStatistics, joined
from edc_ray.core.layers.network_numerics import FLOAT32, NetworkNumerics
from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.core.recover.settings import Carry

_OWN_NAMES = ("loss", "cross_entropy", "matching", "flatness")  # the other terms are terms of the pixels

ObserverTargets = Mapping[str, LayerTarget]
Estimates = dict[str, dict[str, LayerStatistics]]  # observer -> layer -> running estimate


@dataclass
class Observer:
    """A network in eval mode that never changes, its tapped layers, and its numerics.

    If memory is too little for a batch, it sees so many `images_at_once`. Results and gradients are those of
    the batch, up to rounding: a part keeps no activations, and its forward runs again in the backward pass.
    """

    name: str
    network: nn.Module
    taps: LayerTaps
    numerics: NetworkNumerics = FLOAT32
    images_at_once: int | None = None  # None: any number
    # By patch side and image size.
    _measured: dict[tuple[int, torch.Size], Callable[..., Any]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        name: str,
        network: nn.Module,
        kinds: Sequence[LayerKind] = ("bn", "conv"),
        kernels: StatisticKernels = TORCH_KERNELS,
        numerics: NetworkNumerics = FLOAT32,
    ) -> Observer:
        """An observer with its layers of some kinds tapped.

        The network was made for these kernels and numerics (`fused_network`, "gradients"), or is any in eval
        mode.
        """
        return cls(name, network, LayerTaps(network, kinds, kernels), numerics)

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """One forward; the images are laid out as the kernels of the taps want them."""
        images_BCHW = self._laid_out(images_BCHW)
        if self._is_seen_at_once(images_BCHW):
            return self._forward(images_BCHW)
        return torch.cat(self._in_parts(self._forward, images_BCHW))

    def measured(
        self, images_BCHW: Tensor, patch_side: int, leave_out: Collection[str] = ()
    ) -> tuple[Tensor, dict[str, LayerStatistics]]:
        """Logits and the statistics of the layers, all differentiable: see `LayerTaps.measuring`.

        The images are normalised. Layers in `leave_out` give no statistics.
        """
        images_BCHW = self._laid_out(images_BCHW)
        if self._is_seen_at_once(images_BCHW):
            return self._measured_at_once(images_BCHW, patch_side, leave_out)
        found = self._in_parts(self._measured_at_once, images_BCHW, patch_side, leave_out)
        logits, statistics = zip(*found, strict=True)
        return torch.cat(logits), joined(statistics, [len(each) for each in logits], wide(images_BCHW))

    def _measured_at_once(
        self, images_BCHW: Tensor, patch_side: int, leave_out: Collection[str]
    ) -> tuple[Tensor, dict[str, LayerStatistics]]:
        if self.numerics.compiler is None:
            with self.taps.measuring(patch_side, leave_out) as statistics:
                logits_BK = self._forward(images_BCHW)
            return logits_BK, statistics
        key = patch_side, images_BCHW.shape[1:]
        if key not in self._measured:
            network = MeasuredNetwork(self.network, self.taps.kinds, patch_side, images_BCHW)
            self._measured[key] = self.numerics.compiled(network)
        with self.numerics.autocast(images_BCHW.device):
            logits_BK, found = self._measured[key](images_BCHW)
        own = self.numerics.own
        return own(logits_BK), {
            name: LayerStatistics(*map(own, quantities))
            for name, quantities in zip(self.taps.names, found, strict=True)
            if name not in leave_out
        }

    def _is_seen_at_once(self, images_BCHW: Tensor) -> bool:
        return self.images_at_once is None or len(images_BCHW) <= self.images_at_once

    def _in_parts(self, compute: Callable[..., Any], images_BCHW: Tensor, *rest: Any) -> list[Any]:
        """What is computed of each part of the images, to be computed again for its gradient."""
        # A frozen network in eval mode draws nothing.
        forgetful = partial(checkpoint, compute, use_reentrant=False, preserve_rng_state=False)
        assert self.images_at_once is not None
        return [forgetful(part, *rest) for part in images_BCHW.split(self.images_at_once)]

    @cached_property
    def _forward(self) -> Callable[[Tensor], Tensor]:
        return self.numerics.forward(self.network)

    def _laid_out(self, images_BCHW: Tensor) -> Tensor:
        return images_BCHW.contiguous(memory_format=self.taps.kernels.memory_format)


@dataclass
class LoopState:
    """All that an iteration depends on besides its draws: the loop can stop anywhere and continue."""

    images: Tensor  # [B, C, H, W] float32, normalised
    exp_avg: Tensor
    exp_avg_sq: Tensor
    adam_step: int = 0
    ema_images: Tensor | None = None
    estimates: Estimates = field(default_factory=dict)  # of the layers seen so far
    observer_counter: int = 0  # iterations over all batches of a chain; its remainder selects the observer
    iteration: int = 0
    gradient_scales: dict[str, Tensor] = field(default_factory=dict)  # of observers of float16

    @classmethod
    def start(cls, images: Tensor) -> LoopState:
        """Iteration 0 of the first batch."""
        return cls(images.detach().clone(), torch.zeros_like(images), torch.zeros_like(images))

    def copy(self) -> LoopState:
        """This state with images and moments of its own, which the loop may change."""
        return replace(
            self,
            images=self.images.detach().clone(),
            exp_avg=self.exp_avg.clone(),
            exp_avg_sq=self.exp_avg_sq.clone(),
            estimates=dict(self.estimates),
            gradient_scales=dict(self.gradient_scales),
        )

    def next_batch(self, images: Tensor, carry: Carry = "reset") -> LoopState:
        """Iteration 0 of the next batch, which starts at `images`.

        "reset" forgets this batch; "chain" keeps its running estimates and the observers' turn, as the
        official code; a ValueError if `carry` is neither. The optimiser starts over in both.

        Deviations:
            `edc` resets, since otherwise an image depends on the classes made before it; `edc_official`
            chains.
        """
        if carry not in ("reset", "chain"):
            raise ValueError(f"unknown carry {carry!r}: use 'reset' or 'chain'")
        state = LoopState.start(images)
        if carry == "chain":
            state.estimates = {name: dict(layers) for name, layers in self.estimates.items()}
            state.observer_counter = self.observer_counter
        return state


@dataclass(frozen=True)
class IterationReport:
    """One finished iteration. Loss terms are not weighted; `loss` is the weighted sum."""

    iteration: int
    observer: str
    learning_rate: float
    images: Tensor = field(repr=False)  # after the step, clipped: the loop's own tensor, clone it to keep it
    term_names: tuple[str, ...]  # those that have a weight
    values: Tensor = field(repr=False)  # loss and terms, on the device: reading a number waits for it

    @property
    def loss(self) -> float:
        return self._terms["loss"]

    @property
    def cross_entropy(self) -> float:
        return self._terms["cross_entropy"]

    @property
    def matching_loss(self) -> float:
        return self._terms.get("matching", 0.0)

    @property
    def flatness_loss(self) -> float:
        return self._terms.get("flatness", 0.0)

    @property
    def pixel_terms(self) -> Mapping[str, float]:
        """The other terms that have a weight."""
        return {name: value for name, value in self._terms.items() if name not in _OWN_NAMES}

    @cached_property
    def _terms(self) -> dict[str, float]:
        return dict(zip(("loss", *self.term_names), self.values.tolist(), strict=True))
