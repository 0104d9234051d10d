"""The iterations of `loop` as steps without sizes or numbers that change, so that they can be captured.

The images, the optimiser's moments, the targets and the running estimates of a batch stay in the same memory
for all batches of a unit; what an iteration draws comes in as a row of numbers on the device.
B images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edc_ray.core.recover.captured_step import CapturedStep, memory_pool
from edc_ray.core.recover.finite_watch import Iteration
from edc_ray.core.recover.objective import Seen, objective
from edc_ray.core.recover.observer_matching import ObserverMatcher
from edc_ray.core.recover.pixel_kernels import PixelKernels, shared_view
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.core.recover.state import LoopState, Observer
from edc_ray.core.schedules import recover_cosine
from edc_ray.core.seeding import Draws
from edc_ray.core.views.augment import sample_shared_view

_ROWS_AHEAD = 64
"""Iterations whose draws go to the device together."""
_BOX, _RATES = 5, 2


def why_not_captured(settings: RecoverSettings, observers: Sequence[Observer]) -> str | None:
    """What of a loop cannot be captured; None where all can."""
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

    @property
    def box(self) -> Tensor:
        return self.drawn[:_BOX]

    @property
    def rates(self) -> Tensor:
        return self.drawn[_BOX:].view(torch.float32)


class CapturedRecover:
    """Steps of all observers of a unit, batch after batch; see `recover_images`.

    Args:
        kernels: of the pixels' passes.
        captures: makes of a step what is called instead; `CapturedStep` by default.
    """

    def __init__(
        self,
        kernels: PixelKernels,
        captures: Callable[[Callable[[], None], torch.device, Any], Callable[[], None]] = (CapturedStep),
    ) -> None:
        self._kernels, self._captures = kernels, captures
        self._buffers: _Buffers | None = None
        self._steps: dict[str, ObserverStep] = {}
        self._calls: dict[str, Callable[[], None]] = {}
        self._pool: Any = None

    def begin(
        self,
        state: LoopState,
        labels_B: Tensor,
        observers: Sequence[Observer],
        matchers: Mapping[str, ObserverMatcher],
        settings: RecoverSettings,
        patch_side: int,
        bounds: tuple[Tensor, Tensor],
    ) -> None:
        """Takes in a batch of the same observers and settings; a batch of another size starts afresh."""
        images = state.images
        if self._buffers is None or self._buffers.images.shape != images.shape:
            self._steps.clear()
            self._calls.clear()
            self._pool = memory_pool(images.device)
            drawn = torch.zeros(_BOX + _RATES, dtype=torch.int32, device=images.device)
            average = torch.empty_like(images) if settings.flatness_weight else images
            self._buffers = _Buffers(
                torch.empty_like(images), torch.empty_like(images), torch.empty_like(images), average,
                labels_B.clone(), drawn,
            )  # fmt: skip
        buffers = self._buffers
        buffers.images.copy_(images)
        buffers.exp_avg.copy_(state.exp_avg)
        buffers.exp_avg_sq.copy_(state.exp_avg_sq)
        buffers.labels.copy_(labels_B)
        if settings.flatness_weight:
            buffers.average.copy_(images if state.ema_images is None else state.ema_images)
        for observer in observers:
            matcher = matchers.get(observer.name)
            step = self._steps.get(observer.name)
            if step is None:
                step = ObserverStep(observer, matcher, settings, patch_side, buffers, self._kernels, bounds)
                self._steps[observer.name] = step
                self._calls[observer.name] = self._captures(step, images.device, self._pool)
            elif matcher is not None:
                assert step.matcher is not None
                step.matcher.adopt(matcher)

    def run(
        self, state: LoopState, observers: Sequence[Observer], draws: Callable[[int], Draws], stop: int,
        settings: RecoverSettings,
    ) -> Iterator[Iteration]:  # fmt: skip
        """The iterations up to `stop`, one at a time; the state is that of the last one given."""
        buffers = self._buffers
        assert buffers is not None
        state.images, state.exp_avg, state.exp_avg_sq = buffers.images, buffers.exp_avg, buffers.exp_avg_sq
        if settings.flatness_weight:
            state.ema_images = buffers.average
        ahead: Tensor | None = None
        size = (buffers.images.shape[-2], buffers.images.shape[-1])
        for count, iteration in enumerate(range(state.iteration, stop)):
            if count % _ROWS_AHEAD == 0:
                some = range(iteration, min(stop, iteration + _ROWS_AHEAD))
                first_step = state.adam_step + 1 - iteration
                rows = [_row(draws(each), each, first_step + each, size, settings) for each in some]
                ahead = torch.from_numpy(np.stack(rows)).to(buffers.drawn.device, non_blocking=True)
            assert ahead is not None
            observer = observers[state.observer_counter % len(observers)]
            buffers.drawn.copy_(ahead[count % _ROWS_AHEAD])
            self._calls[observer.name]()
            if (matcher := self._steps[observer.name].matcher) is not None:
                matcher.saw_all()
            done = self._steps[observer.name].done(iteration)
            state.iteration += 1
            state.adam_step += 1
            state.observer_counter += 1
            yield done

    def step_of(self, observer: str) -> Callable[[], None]:
        """An observer's step as it is, on the batch that was taken in last."""
        return self._steps[observer]

    def finish(self, state: LoopState, matchers: dict[str, ObserverMatcher]) -> None:
        """Gives the state tensors of its own, and the estimates to whom they belong."""
        state.images, state.exp_avg = state.images.clone(), state.exp_avg.clone()
        state.exp_avg_sq = state.exp_avg_sq.clone()
        if state.ema_images is not None:
            state.ema_images = state.ema_images.clone()
        for name, step in self._steps.items():
            if step.matcher is not None:
                matchers[name] = step.matcher


class ObserverStep:
    """One iteration with one observer, on tensors that stay where they are."""

    def __init__(
        self,
        observer: Observer,
        matcher: ObserverMatcher | None,
        settings: RecoverSettings,
        patch_side: int,
        buffers: _Buffers,
        kernels: PixelKernels,
        bounds: tuple[Tensor, Tensor],
    ) -> None:
        self.observer, self.matcher, self._settings = observer, matcher, settings
        self._patch_side, self._bounds = patch_side, bounds
        self._buffers, self._kernels = buffers, kernels
        self._names: tuple[str, ...] = ()
        self._found: Tensor | None = None
        self._distances: Tensor | None = None
        if matcher is not None:
            matcher.weigh_history_on_the_device()

    def __call__(self) -> None:
        buffers, settings, matcher = self._buffers, self._settings, self.matcher
        layout = self.observer.taps.kernels.memory_format
        leaf = buffers.images.detach().requires_grad_()
        seen = shared_view(leaf, buffers.box, self._kernels, layout)
        if matcher is None:
            logits, match = self.observer.logits(seen), None
        else:
            logits, statistics = self.observer.measured(seen, self._patch_side)
            match = partial(matcher.observe, statistics)
        shown = Seen(seen, buffers.labels, logits, settings, match, self._average_logits)
        loss, terms = objective(shown)
        (gradient,) = torch.autograd.grad(loss, leaf)
        with torch.no_grad():
            self._kernels.step(
                buffers.images, (buffers.exp_avg, buffers.exp_avg_sq), gradient, buffers.rates, self._bounds,
                settings.betas,
            )  # fmt: skip
            distances = None if matcher is None else shown.matching[1]
            self._keep(torch.stack([loss, *terms.values(), gradient.sum()]), distances, tuple(terms))

    @torch.no_grad()
    def _average_logits(self) -> Tensor:
        """Logits of the images' running average, which then takes these images in."""
        buffers, momentum = self._buffers, self._settings.flatness_momentum
        layout = self.observer.taps.kernels.memory_format
        logits = self.observer.logits(shared_view(buffers.average, buffers.box, self._kernels, layout))
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
    scale = settings.crop_scale_at(iteration)
    flip_probability = 0.5 if settings.mirror else 0.0
    view = sample_shared_view(draws, size, scale, flip_probability=flip_probability)
    first, second = settings.betas
    rate = settings.learning_rate * recover_cosine(iteration, settings.iterations)
    rates = np.array([rate / (1 - first**adam_step), (1 - second**adam_step) ** 0.5], dtype=np.float32)
    box = [int(each) for each in (view.top, view.left, view.height, view.width, view.flip)]
    return np.concatenate([np.array(box, dtype=np.int32), rates.view(np.int32)])
