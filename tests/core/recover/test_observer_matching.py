from __future__ import annotations

from typing import Any

import pytest
import torch

from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.core.recover.observer_matching import ObserverMatcher
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.core.seeding import draws
from tests.core.one_layer import layer_statistics, matching_loss
from tests.core.tiny_observers import PATCH_SIDE, SETTINGS, changed, make_observer, random_images, targets_of

LABELS = torch.tensor([0, 1, 1])
OBSERVER = make_observer("a", 1)
TARGETS = targets_of([OBSERVER])["a"]


def _matcher(settings: RecoverSettings, targets: Any = TARGETS, **options: Any) -> ObserverMatcher:
    return ObserverMatcher(OBSERVER, targets, LABELS, settings, random_images(1, 0), **options)


def _inputs(seed: int) -> dict[str, torch.Tensor]:
    with OBSERVER.taps.recording() as inputs:
        OBSERVER.network(random_images(3, seed))
    return inputs


def _measured(seed: int, dropped: Any = ()) -> dict[str, LayerStatistics]:
    with OBSERVER.taps.measuring(PATCH_SIDE, dropped) as statistics:
        OBSERVER.network(random_images(3, seed))
    return statistics


def test_packed_matching_equals_the_sum_of_the_layers_losses_with_the_first_weighted_more() -> None:
    settings = changed(SETTINGS, estimate_start="first", global_weight=0.3, class_weight=0.7)
    inputs = _inputs(0)
    loss, _ = _matcher(settings).observe(_measured(0))
    expected = torch.zeros(())
    for name, target in TARGETS.items():
        assert target.classes is not None
        patch_side = PATCH_SIDE if OBSERVER.taps.kinds[name] == "conv" else None
        layer = matching_loss(
            layer_statistics(inputs[name], patch_side),
            target.global_,
            target.classes.mean_over(LABELS),
            global_weight=0.3,
            class_weight=0.7,
        )
        expected = expected + layer * (10.0 if name == "0" else 1.0)
    torch.testing.assert_close(loss, expected)


def test_dropping_all_convolutions_leaves_the_batch_norms_and_their_estimates() -> None:
    dropping = _matcher(changed(SETTINGS, drop_rate=1.0))
    keeping = _matcher(SETTINGS)
    loss, _ = dropping.observe(_measured(0, dropping.dropped(draws(0))))
    full, _ = keeping.observe(_measured(0, keeping.dropped(draws(0))))
    assert 0 < loss.item() < full.item()
    assert list(dropping.estimates) == ["1", "5"]
    for name in ("1", "5"):
        assert torch.equal(dropping.estimates[name].channel_mean, keeping.estimates[name].channel_mean)


def test_a_dropped_layer_keeps_its_estimate_and_starts_from_its_first_batch() -> None:
    matcher = _matcher(changed(SETTINGS, drop_rate=0.5, estimate_start="first"))
    seen: dict[str, torch.Tensor] = {}
    for step in range(12):
        inputs, before = _inputs(step), matcher.estimates
        matcher.observe(_measured(step, matcher.dropped(draws(step))))
        for name in ("0", "4"):
            after = matcher.estimates.get(name)
            if after is None:
                continue
            now = layer_statistics(inputs[name], 4).channel_mean
            expected = now if name not in before else 0.8 * before[name].channel_mean + 0.2 * now
            was = before[name].channel_mean if name in before else None
            kept = was is not None and torch.equal(after.channel_mean, was)
            seen[f"{name} {'kept' if kept else 'moved'}"] = after.channel_mean
            assert kept or torch.allclose(after.channel_mean, expected)
    assert set(seen) == {"0 kept", "0 moved", "4 kept", "4 moved"}


def test_estimates_given_go_on_from_there() -> None:
    first = _matcher(SETTINGS)
    first.observe(_measured(0))
    second = _matcher(SETTINGS, estimates=first.estimates)
    loss, _ = second.observe(_measured(1))
    again, _ = first.observe(_measured(1))
    assert torch.equal(loss, again)


def test_a_weight_of_zero_needs_no_targets() -> None:
    only_global = {name: LayerTarget(target.global_) for name, target in TARGETS.items()}
    _matcher(changed(SETTINGS, class_weight=0.0), only_global)
    with pytest.raises(ValueError, match=r"observer 'a' has no class statistics of layer '0' \(4 missing\)"):
        _matcher(SETTINGS, only_global)
    local = {name: target.global_ for name, target in TARGETS.items()}
    _matcher(changed(SETTINGS, global_weight=0.0), {}, class_targets=local)
    with pytest.raises(ValueError, match="no global statistics"):
        _matcher(SETTINGS, {}, class_targets=local)


def test_targets_of_another_image_size_are_refused() -> None:
    with OBSERVER.taps.measuring(2) as statistics:
        OBSERVER.network(random_images(3, 0))
    with pytest.raises(ValueError, match=r"layer '0'.*one image size"):
        _matcher(SETTINGS).observe(statistics)


def test_the_loss_of_an_observer_is_zero_where_the_images_have_the_target_statistics() -> None:
    images = random_images(3, 0).requires_grad_()
    with OBSERVER.taps.measuring(PATCH_SIDE) as statistics:
        OBSERVER.network(images)
    own = {name: layer.map(torch.Tensor.detach) for name, layer in statistics.items()}
    # Without classes: a mean over equal rows of three labels is not exactly that row.
    settings = changed(SETTINGS, estimate_start="first", class_weight=0.0)
    targets = {name: LayerTarget(one) for name, one in own.items()}
    loss, _ = _matcher(settings, targets).observe(statistics)
    assert loss.item() == 0.0
    (gradient,) = torch.autograd.grad(loss, images)
    assert not gradient.any()
