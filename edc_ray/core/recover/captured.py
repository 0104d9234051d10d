"""The iterations of `loop` as steps that can be captured: no size and no number of the host changes in them.

The images, the optimiser's moments, the targets and the running estimates stay in the same memory for all
batches of a unit. The draws of an iteration come in as a row of numbers on the device. B images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edc_ray.core.captured_step import CapturedStep, memory_pool
from edc_ray.core.recover.finite_watch import Iteration
from edc_ray.core.recover.objective import Seen, objective
from edc_ray.core.recover.observer_matching import ObserverMatcher
from edc_ray.core.recover.pixel_kernels import PixelKernels, shared_view
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.core.recover.state import LoopState, Observer
from edc_ray.core.schedules import recover_cosine
from edc_ray.core.seeding import Draws
from edc_ray.core.views.augment import AugmentParams, sample_views

_ROWS_AHEAD = 64  # iterations whose draws go to the device together
_BOX, _RATES = 5, 2
Step = Callable[[], None]


@dataclass
class Batch:
    """What stays the same over the iterations of one batch of images."""

    labels: Tensor
    observers: Sequence[Observer]
    matchers: dict[str, ObserverMatcher]  # by their observers' names
    settings: RecoverSettings
    patch_side: int
    bounds: tuple[Tensor, Tensor]  # of the pixels


def why_not_captured(settings: RecoverSettings, observers: Sequence[Observer]) -> str | None:
    """The reason why a loop cannot be captured; None if it can."""
    if settings.jitter:
        return "recover.jitter"
    if settings.drop_rate:
        return "recover.drop_rate"
    if settings.verifier_touches_estimate:
        return "a verifier that touches the running estimate"
    if any(observer.numerics.dtype == torch.float16 for observer in observers):
        return "precision=float16, whose scale of gradients changes"
    if any(observer.numerics.compiler is not None for observer in observers):
        return "a compiler"
    return None


@dataclass
class _Buffers:
    """What all observers of a unit share; it stays where it is."""

    images: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    average: Tensor  # of the images, for flatness
    labels: Tensor
    drawn: Tensor  # int32: box, then the bits of the rates


class CapturedRecover:
    """Steps of all observers of a unit, batch after batch; see `recover_images`.

    `captures` makes of a step the function that is called instead of it.
    """

    def __init__(
        self, kernels: PixelKernels, captures: Callable[[Step, torch.device, Any], Step] = CapturedStep
    ) -> None:
        self._kernels, self._captures = kernels, captures
        self._buffers: _Buffers | None = None
        self.steps: dict[str, ObserverStep] = {}  # by observer; on the batch that was taken in last
        self._calls: dict[str, Step] = {}
        self._pool: Any = None

    def begin(self, state: LoopState, batch: Batch) -> None:
        """Takes in a batch of the same observers and settings. A batch of another size starts over."""
        images, has_average = state.images, bool(batch.settings.flatness_weight)
        if self._buffers is None or self._buffers.images.shape != images.shape:
            self.steps.clear()
            self._calls.clear()
            self._pool = memory_pool(images.device)
            drawn = torch.zeros(_BOX + _RATES, dtype=torch.int32, device=images.device)
            first, second, third = (torch.empty_like(images) for _ in range(3))
            average = torch.empty_like(images) if has_average else images
            self._buffers = _Buffers(first, second, third, average, batch.labels.clone(), drawn)
        buffers = self._buffers
        buffers.images.copy_(images)
        buffers.exp_avg.copy_(state.exp_avg)
        buffers.exp_avg_sq.copy_(state.exp_avg_sq)
        buffers.labels.copy_(batch.labels)
        if has_average:
            buffers.average.copy_(images if state.ema_images is None else state.ema_images)
        for observer in batch.observers:
            step = self.steps.get(observer.name)
            if step is None:
                step = ObserverStep(observer, batch, buffers, self._kernels)
                self.steps[observer.name] = step
                self._calls[observer.name] = self._captures(step, images.device, self._pool)
            elif step.matcher is not None:
                step.matcher.adopt(batch.matchers[observer.name])

    def run(
        self, state: LoopState, batch: Batch, draws: Callable[[int], Draws], stop: int
    ) -> Iterator[Iteration]:
        """The iterations up to `stop`, one at a time; the state is that of the last one given."""
        buffers, observers, settings = self._buffers, batch.observers, batch.settings
        assert buffers is not None
        state.images, state.exp_avg, state.exp_avg_sq = buffers.images, buffers.exp_avg, buffers.exp_avg_sq
        if settings.flatness_weight:
            state.ema_images = buffers.average
        ahead = buffers.drawn.new_empty(0)
        size = (buffers.images.shape[-2], buffers.images.shape[-1])
        for count, iteration in enumerate(range(state.iteration, stop)):
            if count % _ROWS_AHEAD == 0:
                some = range(iteration, min(stop, iteration + _ROWS_AHEAD))
                first_step = state.adam_step + 1 - iteration
                rows = [_row(draws(each), each, first_step + each, size, settings) for each in some]
                ahead = torch.from_numpy(np.stack(rows)).to(buffers.drawn.device, non_blocking=True)
            observer = observers[state.observer_counter % len(observers)]
            buffers.drawn.copy_(ahead[count % _ROWS_AHEAD])
            self._calls[observer.name]()
            step = self.steps[observer.name]
            if step.matcher is not None:
                step.matcher.saw_all()
            done = step.done(iteration)
            state.iteration += 1
            state.adam_step += 1
            state.observer_counter += 1
            yield done

    def finish(self, state: LoopState, matchers: dict[str, ObserverMatcher]) -> None:
        """Gives the state tensors of its own, and each observer its estimates."""
        state.images, state.exp_avg = state.images.clone(), state.exp_avg.clone()
        state.exp_avg_sq = state.exp_avg_sq.clone()
        if state.ema_images is not None:
            state.ema_images = state.ema_images.clone()
        for name, step in self.steps.items():
            if step.matcher is not None:
                matchers[name] = step.matcher


class ObserverStep:
    """One iteration with one observer, on tensors that stay where they are."""

    def __init__(self, observer: Observer, batch: Batch, buffers: _Buffers, kernels: PixelKernels) -> None:
        self.observer, self.matcher = observer, batch.matchers.get(observer.name)
        self._settings, self._patch_side, self._bounds = batch.settings, batch.patch_side, batch.bounds
        self._buffers, self._kernels = buffers, kernels
        self._names: tuple[str, ...] = ()
        self._found: Tensor | None = None
        self._distances: Tensor | None = None
        if self.matcher is not None:
            self.matcher.weigh_history_on_the_device()

    def __call__(self) -> None:
        buffers, settings, matcher = self._buffers, self._settings, self.matcher
        leaf = buffers.images.detach().requires_grad_()
        seen = self._view(leaf)
        if matcher is None:
            logits, match = self.observer.logits(seen), None
        else:
            logits, statistics = self.observer.measured(seen, self._patch_side)
            match = partial(matcher.observe, statistics)
        shown = Seen(seen, buffers.labels, logits, settings, match, self._average_logits)
        loss, terms = objective(shown)
        (gradient,) = torch.autograd.grad(loss, leaf)
        with torch.no_grad():
            moments, rates = (buffers.exp_avg, buffers.exp_avg_sq), buffers.drawn[_BOX:].view(torch.float32)
            self._kernels.step(buffers.images, moments, gradient, rates, self._bounds, settings.betas)
            distances = None if matcher is None else shown.matching[1]
            self._keep(torch.stack([loss, *terms.values(), gradient.sum()]), distances, tuple(terms))

    def _view(self, images_BCHW: Tensor) -> Tensor:
        layout = self.observer.taps.kernels.memory_format
        return shared_view(images_BCHW, self._buffers.drawn[:_BOX], self._kernels, layout)

    @torch.no_grad()
    def _average_logits(self) -> Tensor:
        """Logits of the images' running average, which then takes in these images."""
        buffers, momentum = self._buffers, self._settings.flatness_momentum
        logits = self.observer.logits(self._view(buffers.average))
        buffers.average.mul_(momentum).add_(buffers.images, alpha=1 - momentum)
        return logits

    def _keep(self, found: Tensor, distances: Tensor | None, names: tuple[str, ...]) -> None:
        """What is reported of an iteration, in memory that outlives it."""
        if self._found is None:
            self._names, self._found = names, found.detach().clone()
            self._distances = None if distances is None else distances.detach().clone()
            return
        self._found.copy_(found)
        if self._distances is not None and distances is not None:
            self._distances.copy_(distances)

    def done(self, iteration: int) -> Iteration:
        """What the last call found, in tensors of its own."""
        assert self._found is not None
        loss, *terms, gradient_sum = self._found.clone().unbind()
        return Iteration(
            iteration, self.observer.name, loss, dict(zip(self._names, terms, strict=True)), gradient_sum,
            None if self._distances is None else self._distances.clone(),
            () if self.matcher is None else self.matcher.quantity_layers,
        )  # fmt: skip


def _row(
    draws: Draws, iteration: int, adam_step: int, size: tuple[int, int], settings: RecoverSettings
) -> np.ndarray:
    """Box and rates of an iteration as int32 [7]; the rates by their bits."""
    view = drawn_view(draws, iteration, size, settings)
    first, second = settings.betas
    rate = settings.learning_rate * recover_cosine(iteration, settings.iterations)
    rates = np.array([rate / (1 - first**adam_step), (1 - second**adam_step) ** 0.5], dtype=np.float32)
    box_and_flip = view.top, view.left, view.height, view.width, view.flip
    box = np.array([int(each) for each in box_and_flip], dtype=np.int32)
    return np.concatenate([box, rates.view(np.int32)])


def drawn_view(
    draws: Draws, iteration: int, size: tuple[int, int], settings: RecoverSettings
) -> AugmentParams:
    """One random resized crop and flip for all images of an iteration."""
    flip_probability = 0.5 if settings.mirror else 0.0
    scale = settings.crop_scale_at(iteration)
    return sample_views(draws, 1, size, scale, flip_probability=flip_probability)
