"""The values that the recover loop takes and returns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from edc_ray.core.layers.accumulator import LayerKind
from edc_ray.core.layers.measured_input import StatisticKernels
from edc_ray.core.layers.measured_network import MeasuredNetwork
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.layers.network_numerics import FLOAT32, NetworkNumerics
from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS
from edc_ray.core.recover.matching import EstimateStart, LayerTarget
from edc_ray.core.recover.objective import PIXEL_TERMS, TermName
from edc_ray.core.schedules import Curriculum, smallest_crop

Carry = Literal["reset", "chain"]
ObserverTargets = Mapping[str, LayerTarget]
Estimates = dict[str, dict[str, LayerStatistics]]  # observer -> layer -> running estimate


@dataclass(frozen=True, kw_only=True)
class RecoverSettings:
    """Everything that decides the pixels apart from the data. Defaults: EDC on ImageNet-1k.

    Args:
        iterations, learning_rate, betas: Adam with a cosine over the iterations.
        matching_weight: weight of statistic matching in the objective.
        statistic_momentum, estimate_start: see `RunningEstimate`.
        global_weight, class_weight: see `matching_distances`.
        drop_rate: chance that a convolution is left out of one forward; BatchNorms never are.
        first_multiplier: weight of the first tapped layer; the others have 1.
        flatness_weight, flatness_momentum, flatness_temperature: see `flatness_loss`; weight 0 is off.
        crop_scale, crop_ratio, flip_probability: the view, one draw for all images of an iteration.
        crop_curriculum, crop_milestone: how the smallest crop comes down, see `smallest_crop`.
        jitter: the view is rolled by up to so many pixels down and to the right.
        tv_l1_weight, tv_l2_weight, l2_weight: see `total_variation` and `mean_norm`, of the view.
        diversity_weight, diversity_temperature: see `diversity_loss`, of the view.
        patch_side: side of a patch of activations, 16 for large images and 4 for small ones.
        verifier_touches_estimate: parity with the official small-image programs, where showing the
            accuracy of the images on the first observer also updates its running estimate.
        verify_every: iterations between two such forwards; 0 is never.
        verify_final: one more, on the finished 8-bit images.

    Raises:
        ValueError: a value outside its range.
    Deviations:
        nothing is shown to a verifier but where that touches the estimate, which `edc` leaves out: looking at
        the images must not change them. Students judge them.
    """

    iterations: int = 1000
    learning_rate: float = 0.05
    betas: tuple[float, float] = (0.5, 0.9)
    matching_weight: float = 0.1
    statistic_momentum: float = 0.8
    estimate_start: EstimateStart = "first"
    global_weight: float = 0.5
    class_weight: float = 0.5
    drop_rate: float = 0.0
    first_multiplier: float = 10.0
    flatness_weight: float = 0.0
    flatness_momentum: float = 0.99
    flatness_temperature: float = 4.0
    crop_scale: tuple[float, float] = (0.5, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_probability: float = 0.5
    crop_curriculum: Curriculum = "none"
    crop_milestone: float = 1.0
    jitter: int = 0
    tv_l1_weight: float = 0.0
    tv_l2_weight: float = 0.0
    l2_weight: float = 0.0
    diversity_weight: float = 0.0
    diversity_temperature: float = 4.0
    patch_side: int = 16
    verifier_touches_estimate: bool = False
    verify_every: int = 0
    verify_final: bool = False

    def __post_init__(self) -> None:
        shares = (
            "statistic_momentum",
            "drop_rate",
            "flatness_momentum",
            "flip_probability",
            "crop_milestone",
        )
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], not {getattr(self, name)}")
        amounts = ["global_weight", "class_weight", "verify_every", "jitter"]
        for name in [*amounts, *(f"{term}_weight" for term in self.term_weights if term != "cross_entropy")]:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if self.iterations < 1 or self.patch_side < 1:
            raise ValueError("iterations and patch_side must be at least 1")
        if self.global_weight == self.class_weight == 0 and self.matching_weight:
            raise ValueError(
                "global_weight and class_weight are both 0; set matching_weight=0 to match nothing"
            )

    def verifies_at(self, iteration: int) -> bool:
        """Whether an iteration has a verifying forward that touches the running estimate."""
        return self.verifier_touches_estimate and self.verify_every > 0 and iteration % self.verify_every == 0

    def crop_scale_at(self, iteration: int) -> tuple[float, float]:
        """Smallest and largest share of the area of an iteration's view."""
        smallest, largest = self.crop_scale
        floor = smallest_crop(iteration, self.iterations, smallest, self.crop_curriculum, self.crop_milestone)
        return min(floor, largest), largest

    @property
    def term_weights(self) -> dict[TermName, float]:
        return {
            "cross_entropy": 1.0,
            "matching": self.matching_weight,
            "flatness": self.flatness_weight,
            "tv_l1": self.tv_l1_weight,
            "tv_l2": self.tv_l2_weight,
            "l2": self.l2_weight,
            "diversity": self.diversity_weight,
        }


@dataclass
class Observer:
    """A network in eval mode that is never changed, its tapped layers, and how its forwards are computed."""

    name: str
    network: nn.Module
    taps: LayerTaps
    numerics: NetworkNumerics = FLOAT32
    _measured: dict[tuple[int, torch.Size], Callable[..., tuple[Tensor, tuple[tuple[Tensor, ...], ...]]]] = (
        field(default_factory=dict, repr=False)
    )

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

        Args:
            name, network: a network that `fused_network` made of "gradients", or any in eval mode.
            kinds: of layers.
            kernels, numerics: as the network was made for.
        """
        return cls(name, network, LayerTaps(network, kinds, kernels), numerics)

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """One forward, on images in the memory format that suits the kernels of the taps."""
        return self._forward(self._laid_out(images_BCHW))

    def measured(
        self, images_BCHW: Tensor, patch_side: int, leave_out: Collection[str] = ()
    ) -> tuple[Tensor, dict[str, LayerStatistics]]:
        """Logits, and what the layers saw, all differentiable: see `LayerTaps.measuring`.

        Args:
            images_BCHW: normalised.
            patch_side: side of a patch, for convolutions.
            leave_out: names of layers whose statistics are not given.
        """
        if self.numerics.compiler is None:
            with self.taps.measuring(patch_side, leave_out) as statistics:
                logits_BK = self.logits(images_BCHW)
            return logits_BK, statistics
        images_BCHW = self._laid_out(images_BCHW)
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

    @cached_property
    def _forward(self) -> Callable[[Tensor], Tensor]:
        return self.numerics.forward(self.network)

    def _laid_out(self, images_BCHW: Tensor) -> Tensor:
        return images_BCHW.contiguous(memory_format=self.taps.kernels.memory_format)


@dataclass
class LoopState:
    """All that an iteration depends on besides its draws: the loop can stop anywhere and go on.

    images [B, C, H, W] float32, normalised. `estimates` holds the layers seen so far.
    `observer_counter` counts iterations over all batches of a chain: its remainder picks the observer.
    `gradient_scales` are those of the observers of float16, see `scaled_gradient`.
    """

    images: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    adam_step: int = 0
    ema_images: Tensor | None = None
    estimates: Estimates = field(default_factory=dict)
    observer_counter: int = 0
    iteration: int = 0
    gradient_scales: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def start(cls, images: Tensor) -> LoopState:
        """Iteration 0 of the first batch."""
        return cls(images.detach().clone(), torch.zeros_like(images), torch.zeros_like(images))

    def next_batch(self, images: Tensor, carry: Carry = "reset") -> LoopState:
        """Iteration 0 of the next batch.

        Args:
            images: where it starts.
            carry: "reset" forgets this batch; "chain" goes on with its running estimates and its turn
                of the observers (as the official code). The optimiser starts afresh in both.

        Raises:
            ValueError: unknown carry.
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
    """One finished iteration. Loss terms are not weighted; `loss` is the weighted sum.

    The numbers stay on the device until one of them is read, which waits for it.

    Args:
        iteration, observer, learning_rate: of this iteration.
        images: after the step, clipped: the loop's own tensor, to be cloned if kept.
        term_names: of the terms that have a weight.
        values: the loss and the terms, on the device.
    """

    iteration: int
    observer: str
    learning_rate: float
    images: Tensor = field(repr=False)
    term_names: tuple[TermName, ...]
    values: Tensor = field(repr=False)

    @property
    def loss(self) -> float:
        return self._numbers[0]

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
        """The terms of the pixels alone that have a weight."""
        return {name: value for name, value in self._terms.items() if name in PIXEL_TERMS}

    @cached_property
    def _numbers(self) -> list[float]:
        return self.values.tolist()

    @property
    def _terms(self) -> dict[TermName, float]:
        return dict(zip(self.term_names, self._numbers[1:], strict=True))
