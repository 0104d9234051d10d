"""The optimisation of one batch of condensed images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.pixels import denormalise, from_uint8, normalise, pixel_bounds, to_uint8
from edc_ray.core.recover.captured import Batch, CapturedRecover, drawn_view, why_not_captured
from edc_ray.core.recover.finite_watch import FiniteWatch, Iteration
from edc_ray.core.recover.flatness import update_average
from edc_ray.core.recover.gradient_scale import first_scale, scaled_gradient
from edc_ray.core.recover.objective import Seen, objective
from edc_ray.core.recover.observer_matching import ObserverMatcher
from edc_ray.core.recover.pixel_kernels import ADAM_EPSILON
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.core.recover.state import IterationReport, LoopState, Observer, ObserverTargets
from edc_ray.core.schedules import recover_cosine
from edc_ray.core.seeding import Draws
from edc_ray.core.views.augment import apply_shared_view

View = Callable[[Tensor], Tensor]
# (draws of the iteration, iteration, (height, width)) -> the view, applied to images and their average alike.
Augment = Callable[[Draws, int, tuple[int, int]], View]


def recover_images(
    state: LoopState,
    labels_B: Tensor,
    observers: Sequence[Observer],
    targets: Mapping[str, ObserverTargets],
    settings: RecoverSettings,
    *,
    patch_side: int,
    mean: Sequence[float],
    std: Sequence[float],
    draws: Callable[[int], Draws],
    augment: Augment | None = None,
    local_targets: Mapping[str, Mapping[str, LayerStatistics]] | None = None,
    on_iteration: Callable[[IterationReport], None] | None = None,
    report_every: int = 1,
    until: int | None = None,
    captured: CapturedRecover | None = None,
) -> LoopState:
    """Optimises images until observers recognise them and see the statistics of real data in them.

    The observers take turns, one in each iteration.

    Args:
        state: from `LoopState.start` or `next_batch`, or an earlier result to continue. Not changed.
        observers: on the images' device, in eval mode, in the order of their turns.
        targets: observer name -> layer name -> target. What has weight 0 may be missing.
        patch_side: side of a patch of activations in the targets, 16 for large images and 4 for small ones.
        mean, std: of the normalisation, per channel.
        draws: iteration -> its draws (view first, then dropped layers). Called once in each iteration, and
            with `settings.iterations` for the verifying forward on the finished images.
        augment: the view; by default one random crop and flip for all images.
        local_targets: observer name -> layer name -> class target ("local" category awareness), from
            `local_class_targets`, instead of the average of the class statistics.
        on_iteration: called after every `report_every`-th iteration and the last one.
        until: iteration to stop before; by default the end. The schedule does not depend on it.
        captured: runs the iterations if `why_not_captured` gives no reason and the view is the default; the
            same numbers up to rounding. Pass it again for the next batch to use its recordings again.

    Returns:
        The state after the last iteration, with its images (not the best ones).

    Raises:
        NumericalError: a NaN or Inf; names the iteration, the observer and the layer.
        ValueError: targets are missing or of other shapes.

    Source:
        EDC, Shao et al., NeurIPS 2024, arXiv:2404.13733; SRe2L, Yin et al., NeurIPS 2023 (the loop).
    Deviations:
        the official code keeps running estimates in the hooks over all batches of a process. Here they are
        part of the state, and `LoopState.next_batch` carries them over or not.
    """
    state = state.copy()
    watch = FiniteWatch(state.images)
    labels_B = labels_B.to(state.images.device, torch.int64)
    matchers = _matchers(state, labels_B, observers, targets, settings, local_targets)
    bounds = pixel_bounds(mean, std, state.images)
    batch = Batch(labels_B, observers, matchers, settings, patch_side, bounds)
    stop = settings.iterations if until is None else min(until, settings.iterations)
    if augment is not None or why_not_captured(settings, observers) is not None:
        captured = None
    if captured is not None:
        captured.begin(state, batch)
        iterations = captured.run(state, batch, draws, stop)
    else:
        view, first = augment or shared_crop_and_flip(settings), state.iteration
        iterations = (_iterate(state, batch, view, draws(each)) for each in range(first, stop))
    for iteration, done in enumerate(iterations, state.iteration):
        watch.note(done)
        if on_iteration is not None and (iteration % report_every == 0 or iteration == stop - 1):
            rate = settings.learning_rate * recover_cosine(iteration, settings.iterations)
            values, names = torch.stack([done.loss, *done.terms.values()]), tuple(done.terms)
            on_iteration(IterationReport(iteration, done.observer, rate, state.images, names, values))
    watch.check()
    if captured is not None:
        captured.finish(state, batch.matchers)
    finished = state.iteration == settings.iterations
    if finished and settings.verifier_touches_estimate and settings.verify_final:
        stored = normalise(from_uint8(to_uint8(denormalise(state.images, mean, std))), mean, std)
        _verify(stored, batch, draws(settings.iterations))
    state.estimates.update({name: matcher.estimates for name, matcher in batch.matchers.items()})
    return state


def shared_crop_and_flip(settings: RecoverSettings) -> Augment:
    """The default view: one random resized crop, flip and roll for all images of the iteration."""

    def augment(draws: Draws, iteration: int, image_size: tuple[int, int]) -> View:
        params = drawn_view(draws, iteration, image_size, settings)
        if not settings.jitter:
            return partial(apply_shared_view, params=params)
        down, right = draws.integers(settings.jitter + 1, 2).tolist()
        return lambda images: apply_shared_view(images, params).roll((down, right), dims=(-2, -1))

    return augment


def _matchers(
    state: LoopState,
    labels_B: Tensor,
    observers: Sequence[Observer],
    targets: Mapping[str, ObserverTargets],
    settings: RecoverSettings,
    local_targets: Mapping[str, Mapping[str, LayerStatistics]] | None,
) -> dict[str, ObserverMatcher]:
    return {
        observer.name: ObserverMatcher(
            observer,
            targets.get(observer.name, {}),
            labels_B,
            settings,
            state.images,
            class_targets=None if local_targets is None else local_targets[observer.name],
            estimates=state.estimates.get(observer.name),
        )
        for observer in (observers if settings.matching_weight else ())
    }


def _iterate(state: LoopState, batch: Batch, augment: Augment, draws: Draws) -> Iteration:
    """One iteration; changes the state."""
    settings = batch.settings
    observer = batch.observers[state.observer_counter % len(batch.observers)]
    images = state.images.detach().requires_grad_()
    view = augment(draws, state.iteration, (images.shape[-2], images.shape[-1]))
    matcher = batch.matchers.get(observer.name)
    shown = view(images)
    if matcher is None:
        logits, match = observer.logits(shown), None
    else:
        logits, statistics = observer.measured(shown, batch.patch_side, matcher.dropped(draws))
        match = partial(matcher.observe, statistics)
    average_logits = partial(_average_logits, state, observer, view, settings.flatness_momentum)
    seen = Seen(shown, batch.labels, logits, settings, match, average_logits)
    loss, terms = objective(seen)
    if settings.verifies_at(state.iteration):
        _verify(state.images, batch, draws)
    gradient = _gradient(state, observer, loss, images)
    learning_rate = settings.learning_rate * recover_cosine(state.iteration, settings.iterations)
    _adam_step(state, gradient, learning_rate, settings.betas)
    state.images.clamp_(*batch.bounds)
    parts = {name: term.detach() for name, term in terms.items()}
    distances = None if matcher is None else seen.matching[1].detach()
    layers = () if matcher is None else matcher.quantity_layers
    done = Iteration(state.iteration, observer.name, loss.detach(), parts, gradient.sum(), distances, layers)
    state.iteration += 1
    state.observer_counter += 1
    return done


def _gradient(state: LoopState, observer: Observer, loss: Tensor, images: Tensor) -> Tensor:
    """The gradient of the loss by the images; each observer of float16 has its own scale."""
    if observer.numerics.dtype != torch.float16:
        return torch.autograd.grad(loss, images)[0]
    scale = state.gradient_scales.get(observer.name)
    gradient, following = scaled_gradient(loss, images, first_scale(images) if scale is None else scale)
    state.gradient_scales[observer.name] = following
    return gradient


@torch.no_grad()
def _average_logits(state: LoopState, observer: Observer, view: View, momentum: float) -> Tensor:
    """Logits of the images' running average, which then takes in these images."""
    average = state.images if state.ema_images is None else state.ema_images
    logits = observer.logits(view(average))
    state.ema_images = update_average(average, state.images, momentum)
    return logits


@torch.no_grad()
def _verify(images: Tensor, batch: Batch, draws: Draws) -> None:
    """A forward of the first observer on the images as they are, for its effect on the running estimate."""
    observer = batch.observers[0]
    if (matcher := batch.matchers.get(observer.name)) is not None:
        _, statistics = observer.measured(images, batch.patch_side, matcher.dropped(draws))
        matcher.observe(statistics)


@torch.no_grad()
def _adam_step(state: LoopState, gradient: Tensor, learning_rate: float, betas: tuple[float, float]) -> None:
    """torch.optim.Adam's arithmetic, on the state's own tensors."""
    first, second = betas
    state.adam_step += 1
    state.exp_avg.lerp_(gradient, 1 - first)
    state.exp_avg_sq.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    step_size = learning_rate / (1 - first**state.adam_step)
    root_correction = (1 - second**state.adam_step) ** 0.5
    denominator = (state.exp_avg_sq.sqrt() / root_correction).add_(ADAM_EPSILON)
    state.images.addcdiv_(state.exp_avg, denominator, value=-step_size)
