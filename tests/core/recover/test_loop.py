from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.pixels import pixel_bounds
from edc_ray.core.recover.local_targets import local_class_targets
from edc_ray.core.recover.loop import View, shared_crop_and_flip
from edc_ray.core.recover.state import IterationReport, LoopState, Observer
from edc_ray.core.seeding import Draws, draws
from edc_ray.errors import NumericalError
from tests.core.tiny_observers import (
    MEAN,
    PATCH_SIDE,
    SETTINGS,
    STD,
    Bench,
    changed,
    make_observer,
    random_images,
    start,
)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def _reports(bench: Bench, settings: Any = SETTINGS, **options: Any) -> list[IterationReport]:
    reports: list[IterationReport] = []
    bench.run(start(), settings, on_iteration=reports.append, **options)
    return reports


def _same_view(_: Draws, __: int, ___: tuple[int, int]) -> View:
    return lambda images: images


def test_recovery_lowers_the_objective_and_stays_within_the_pixel_range(bench: Bench) -> None:
    reports = _reports(bench, changed(SETTINGS, iterations=60), augment=_same_view)
    for first, last in zip(reports[:2], reports[-2:], strict=True):
        assert last.loss < first.loss
        assert last.matching_loss < 0.6 * first.matching_loss
    low, high = pixel_bounds(MEAN, STD, reports[-1].images)
    assert ((reports[-1].images >= low) & (reports[-1].images <= high)).all()


def test_same_draws_give_the_same_bits_and_other_draws_do_not(bench: Bench) -> None:
    first, second = bench.run(start()), bench.run(start())
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images, bench.run(start(), draws=partial(draws, 1)).images)


def test_no_global_random_state_is_read_or_changed(bench: Bench) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = bench.run(start(), changed(SETTINGS, drop_rate=0.5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(bench.run(start(), changed(SETTINGS, drop_rate=0.5)).images, first.images)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flatness_weight": 1.0, "flatness_momentum": 0.5},
        {"drop_rate": 0.6, "estimate_start": "first"},
        {"estimate_start": "zero"},
    ],
)
def test_stopping_and_going_on_gives_the_bits_of_one_run(bench: Bench, changes: dict[str, Any]) -> None:
    settings = changed(SETTINGS, iterations=6, **changes)
    halfway = bench.run(start(), settings, until=3)
    assert halfway.iteration == 3
    assert torch.equal(bench.run(halfway, settings).images, bench.run(start(), settings).images)


def test_the_given_state_is_left_alone(bench: Bench) -> None:
    state = bench.run(start(), changed(SETTINGS, flatness_weight=1.0), until=2)
    assert state.ema_images is not None
    tensors = (state.images, state.exp_avg, state.exp_avg_sq, state.ema_images)
    kept = [tensor.clone() for tensor in tensors]
    estimate = state.estimates["a"]["0"].channel_mean.clone()
    bench.run(state, changed(SETTINGS, flatness_weight=1.0))
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(tensors, kept, strict=True))
    assert torch.equal(state.estimates["a"]["0"].channel_mean, estimate)
    assert (state.iteration, state.adam_step, state.observer_counter) == (2, 2, 2)


def test_observers_take_turns_and_a_chain_goes_on_with_the_next(bench: Bench) -> None:
    settings = changed(SETTINGS, iterations=3)
    names: list[str] = []

    def keep(report: IterationReport) -> None:
        names.append(report.observer)

    state = bench.run(start(), settings, on_iteration=keep)
    bench.run(state.next_batch(random_images(3, 9), carry="chain"), settings, on_iteration=keep)
    assert names == ["a", "b", "a", "b", "a", "b"]


def test_adam_steps_equal_those_of_torch(bench: Bench) -> None:
    settings = changed(SETTINGS, matching_weight=0.0, iterations=4)
    images = random_images(3, 5).clamp(*pixel_bounds(MEAN, STD, torch.zeros(1))).requires_grad_()
    ours = bench.run(LoopState.start(images), settings, augment=_same_view).images
    optimizer = torch.optim.Adam([images], lr=settings.learning_rate, betas=settings.betas)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.iterations)
    for iteration in range(settings.iterations):
        optimizer.zero_grad()
        logits = bench.observers[iteration % 2].network(images)
        nn.functional.cross_entropy(logits, bench.labels).backward()
        optimizer.step()
        with torch.no_grad():
            images.clamp_(*pixel_bounds(MEAN, STD, images))
        schedule.step()
    torch.testing.assert_close(ours, images.detach(), rtol=0, atol=1e-5)


def test_reported_terms_add_up_to_the_loss(bench: Bench) -> None:
    settings = changed(SETTINGS, flatness_weight=0.25)
    for report in _reports(bench, settings):
        expected = report.cross_entropy + settings.matching_weight * report.matching_loss
        assert report.loss == pytest.approx(expected + 0.25 * report.flatness_loss, rel=1e-5)


def test_reports_come_every_so_many_iterations_and_at_the_end(bench: Bench) -> None:
    reports = _reports(bench, changed(SETTINGS, iterations=6), report_every=4)
    assert [report.iteration for report in reports] == [0, 4, 5]


def test_local_targets_take_the_place_of_the_class_average(bench: Bench) -> None:
    settings = changed(SETTINGS, iterations=1, global_weight=0.0, class_weight=1.0)
    state = start()
    local = local_class_targets(bench.observers, state.images, PATCH_SIDE)
    reports = _reports(bench, settings, local_targets=local, augment=_same_view)
    assert reports[0].matching_loss == pytest.approx(0, abs=1e-4)
    assert _reports(bench, settings, augment=_same_view)[0].matching_loss > 0.1


def test_a_touching_verifier_changes_the_estimate_of_the_first_observer_only(bench: Bench) -> None:
    settings = changed(SETTINGS, iterations=2, verify_every=2, verify_final=True)
    plain = bench.run(start(), settings)
    touched = bench.run(start(), changed(settings, verifier_touches_estimate=True))
    assert not torch.equal(plain.estimates["a"]["0"].channel_mean, touched.estimates["a"]["0"].channel_mean)
    assert torch.equal(plain.estimates["b"]["0"].channel_mean, touched.estimates["b"]["0"].channel_mean)


class _Spoiler(nn.Module):
    """Passes activations on, spoiled in the forward or in the backward pass."""

    def __init__(self, spoil: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.spoil = spoil

    def forward(self, x: Tensor) -> Tensor:
        return self.spoil(x)


class _BadGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * float("nan")


@pytest.mark.parametrize(
    ("position", "spoil", "place"),
    [
        (4, lambda x: x / 0 * 0, "layer '5'"),
        (11, lambda x: x * float("inf"), "the logits"),
        (0, _BadGradient.apply, "the image gradient"),
    ],
)
def test_a_nan_is_named_by_iteration_observer_and_layer(position: int, spoil: Any, place: str) -> None:
    bench = Bench()
    clean = list(make_observer("b", 2).network.children())
    network = nn.Sequential(*clean[:position], _Spoiler(spoil), *clean[position:]).eval()
    taps = LayerTaps(network)
    bench.observers[1] = Observer("b", network, taps)
    bench.targets["b"] = dict(zip(taps.names, bench.targets["b"].values(), strict=True))
    with pytest.raises(NumericalError, match=rf"{place}.* at iteration 1, observer 'b'"):
        bench.run(start())


def test_a_nan_in_the_input_images_is_named() -> None:
    state = start()
    state.images[0, 0, 0, 0] = float("nan")
    with pytest.raises(NumericalError, match="input images"):
        Bench().run(state)


def test_a_curriculum_begins_with_whole_images(bench: Bench) -> None:
    """The first view is the whole image, mirrored or not, while the crop is small later."""
    settings = changed(SETTINGS, crop_scale=(0.08, 1.0), mirror=False, crop_curriculum="step")
    settings = changed(settings, crop_milestone=0.5, iterations=4)
    assert [settings.crop_scale_at(iteration)[0] for iteration in range(4)] == [1.0, 1.0, 0.08, 0.08]
    image = random_images(1, 3)
    view = shared_crop_and_flip(settings)
    assert torch.equal(view(draws(0, "a", 0), 0, (8, 8))(image), image)
    assert not torch.equal(view(draws(0, "a", 2), 2, (8, 8))(image), image)


def test_jitter_rolls_all_images_alike_by_no_more_than_it_says(bench: Bench) -> None:
    settings = changed(SETTINGS, crop_scale=(1.0, 1.0), mirror=False, jitter=2)
    images = random_images(2, 4)
    shifts = set()
    for number in range(60):
        seen = shared_crop_and_flip(settings)(draws(0, "b", number), 0, (8, 8))(images)
        found = [
            (down, right)
            for down in range(3)
            for right in range(3)
            if torch.equal(images.roll((down, right), (2, 3)), seen)
        ]
        assert len(found) == 1
        shifts |= set(found)
    assert len(shifts) == 9


@pytest.mark.parametrize("name", ["tv_l1", "tv_l2", "l2", "diversity"])
def test_a_pixel_term_is_reported_added_and_lowered(bench: Bench, name: str) -> None:
    images = LoopState.start(0.05 * random_images(3, 6))
    bench = Bench(labels=torch.tensor([1, 1, 3]))
    settings = changed(SETTINGS, iterations=30, matching_weight=0.0, **{f"{name}_weight": 50.0})  # type: ignore
    reports: list[IterationReport] = []
    bench.run(images, settings, on_iteration=reports.append, augment=_same_view)
    first, last = reports[0], reports[-1]
    assert list(first.pixel_terms) == [name]
    assert first.loss == pytest.approx(first.cross_entropy + 50 * first.pixel_terms[name], rel=1e-5)
    assert last.pixel_terms[name] < 0.9 * first.pixel_terms[name]


def test_terms_without_weight_change_no_bit(bench: Bench) -> None:
    plain = bench.run(start())
    settings = changed(SETTINGS, crop_milestone=0.3, diversity_temperature=2.0)
    assert torch.equal(bench.run(start(), settings).images, plain.images)
