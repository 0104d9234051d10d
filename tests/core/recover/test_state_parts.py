"""An observer that sees a batch in parts gives the numbers of the whole batch, in less memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edc_ray.core.captured_step import CapturedStep
from edc_ray.core.layers.network_numerics import FLOAT32, NetworkNumerics
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS
from edc_ray.core.recover.captured import CapturedRecover
from edc_ray.core.recover.observer_matching import ObserverMatcher
from edc_ray.core.recover.pixel_kernels import TORCH_PIXEL_KERNELS
from edc_ray.core.recover.state import LoopState, Observer
from edc_ray.kernels.cpu.fused_network import fused_network, trial_images
from edc_ray.kernels.cpu.statistics import kernels_for
from edc_ray.models.observers import freeze
from edc_ray.models.registry import build_network
from tests.core.tiny_observers import (
    NUM_CLASSES,
    PATCH_SIDE,
    SETTINGS,
    Bench,
    changed,
    make_observer,
    random_images,
    targets_of,
)
from tests.core.traced import Traced

COUNT = 7
LABELS = torch.arange(COUNT) % NUM_CLASSES
AT_ONCE = (4, 3, 1)  # 2, 3 and 7 parts


pytestmark = pytest.mark.usefixtures("one_thread")


def _plain() -> Observer:
    return make_observer("a", 1)


def _in_float64() -> Observer:
    observer = make_observer("a", 1)
    observer.network.double()
    return observer


def _depthwise() -> Observer:
    """MobileNet in the fastest form of this machine: fused norms and C++ kernels, if there is a compiler."""
    network = build_network("mobilenet_v2_small", num_classes=NUM_CLASSES, image_size=8, channels=3, seed=0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(random_images(64, 9))  # norms as of a trained network: logits then differ between images
    freeze(network)
    kernels = kernels_for(torch.device("cpu"))
    fused = fused_network(network, "gradients", kernels, FLOAT32, trial_images(3, 8, torch.device("cpu")))
    return Observer.of("a", fused, kernels=kernels)


def _matched(observer: Observer, images: Tensor, leave_out: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Logits, loss, distances, gradient of the pixels, and running estimates of one forward."""
    pixels = images.clone().requires_grad_()
    targets = targets_of([observer])["a"] if images.dtype == torch.float32 else targets_of([_plain()])["a"]
    matcher = ObserverMatcher(observer, targets, LABELS, SETTINGS, pixels)
    logits, statistics = observer.measured(pixels, PATCH_SIDE, leave_out)
    matching, distances = matcher.observe(statistics)
    loss = F.cross_entropy(logits, LABELS) + matching
    (gradient,) = torch.autograd.grad(loss, pixels)
    found = {"logits": logits, "loss": loss, "distances": distances, "gradient": gradient}
    for layer, each in matcher.estimates.items():
        found[f"estimates of {layer}"] = torch.cat(each.quantities)
    return {name: each.detach() for name, each in found.items()}


def _assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, one in found.items():
        other = expected[name]
        assert (one - other).norm() <= tolerance * other.norm(), name


@pytest.mark.parametrize("at_once", AT_ONCE)
@pytest.mark.parametrize(
    ("made", "tolerance"),
    [(_plain, 2e-6), (_depthwise, 2e-6), (_in_float64, 1e-12)],
    ids=["plain", "depthwise", "in_float64"],
)
def test_parts_give_loss_gradient_and_estimates_of_the_batch(
    made: Callable[[], Observer], tolerance: float, at_once: int
) -> None:
    observer = made()
    images = random_images(COUNT, 3)
    if made is _in_float64:
        images = images.double()
    expected = _matched(observer, images)
    observer.images_at_once = at_once
    _assert_same(_matched(observer, images), expected, tolerance)
    without = (observer.taps.names[1],)
    parts = _matched(observer, images, without)
    observer.images_at_once = None
    _assert_same(parts, _matched(observer, images, without), tolerance)
    assert not any(module._forward_pre_hooks for module in observer.network.modules())


@pytest.mark.parametrize(
    "numerics",
    [
        NetworkNumerics(compiler=lambda module: module),
        NetworkNumerics(torch.bfloat16),
        NetworkNumerics(torch.float16),
        pytest.param(
            NetworkNumerics(
                compiler=lambda module: torch.compile(module, backend="aot_eager", dynamic=False)
            ),
            # Dynamo looks at the gradient of what it is given, and a part is no leaf.
            marks=[pytest.mark.nightly, pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")],
        ),
    ],
    ids=["measured_network", "bfloat16", "float16", "compiled"],
)
def test_so_they_do_behind_a_compiler_and_in_sixteen_bits(numerics: NetworkNumerics) -> None:
    plain, images = _plain(), random_images(COUNT, 3)
    observer = Observer(plain.name, plain.network, plain.taps, numerics)
    expected = _matched(observer, images)
    observer.images_at_once = 3
    _assert_same(_matched(observer, images), expected, 2e-6)


def _bench() -> tuple[Bench, LoopState]:
    return Bench(labels=LABELS), LoopState.start(random_images(COUNT, 5))


def _see(bench: Bench, at_once: int | None) -> None:
    for observer in bench.observers:
        observer.images_at_once = at_once


@pytest.mark.parametrize(
    "fields",
    [
        {"flatness_weight": 0.5, "tv_l2_weight": 0.1, "diversity_weight": 0.1, "drop_rate": 0.3},
        {"verifier_touches_estimate": True, "verify_every": 2, "verify_final": True},
        {"matching_weight": 0.0},
    ],
    ids=str,
)
def test_the_loop_makes_the_same_images_of_parts(fields: dict[str, Any]) -> None:
    (bench, begun), settings = _bench(), changed(SETTINGS, iterations=6, **fields)
    whole = bench.run(begun, settings)
    _see(bench, 3)
    parts = bench.run(begun, settings)
    torch.testing.assert_close(parts.images, whole.images, rtol=0, atol=1e-5)
    for name, layers in whole.estimates.items():
        for layer, each in layers.items():
            for one, other in zip(parts.estimates[name][layer].quantities, each.quantities, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_step_of_parts_is_captured_whole() -> None:
    """Nothing of it is read by the host, and one trace serves all iterations."""
    (bench, begun), settings = _bench(), changed(SETTINGS, iterations=6, flatness_weight=0.5)
    bench.observers = bench.observers[:1]
    traces = list[Traced]()

    def traced(step: Callable[[], None], *_: object) -> Traced:
        traces.append(Traced(step))
        return traces[-1]

    whole = bench.run(begun, settings)
    _see(bench, 4)
    parts = bench.run(begun, settings, captured=CapturedRecover(TORCH_PIXEL_KERNELS, traced))
    assert [trace.graph is not None for trace in traces] == [True]
    torch.testing.assert_close(parts.images, whole.images, rtol=0, atol=1e-4)


class _Peak(TorchDispatchMode):
    """The most bytes that results of operations hold at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                storage = each.untyped_storage()
                self._held[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.bytes = max(self.bytes, sum(size for _, size in self._held.values()))
        return result


def _deep_gradient(at_once: int | None, images: Tensor) -> Tensor:
    torch.manual_seed(0)
    layers = [module for _ in range(6) for module in (nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, NUM_CLASSES))
    network = nn.Sequential(nn.Conv2d(3, 8, 1), *layers, *head).eval().requires_grad_(False)
    observer = Observer.of("a", network.to(images.device), kernels=TORCH_KERNELS)
    observer.images_at_once = at_once
    leaf = images.clone().requires_grad_()
    logits, statistics = observer.measured(leaf, PATCH_SIDE)
    loss = logits.sum() + torch.stack([each.channel_variance.sum() for each in statistics.values()]).sum()
    return torch.autograd.grad(loss, leaf)[0]


def test_parts_take_a_fraction_of_the_memory_in_the_backward_pass_too() -> None:
    peaks = []
    for at_once in (None, 8, 2):
        with _Peak() as peak:
            _deep_gradient(at_once, random_images(16, 3, side=32))
        peaks.append(peak.bytes)
    assert peaks[1] < 0.6 * peaks[0]
    assert peaks[2] < 0.25 * peaks[0]


@pytest.mark.gpu
def test_parts_take_a_fraction_of_the_memory_of_a_device() -> None:
    device = torch.device("cuda")
    images, peaks, found = random_images(64, 3, side=64).to(device), list[int](), list[Tensor]()
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        _deep_gradient(None, images)  # libraries take memory of their own
        for at_once in (None, 8):
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            found.append(_deep_gradient(at_once, images))
            peaks.append(torch.cuda.max_memory_allocated(device) - before)
    assert peaks[1] < 0.6 * peaks[0]
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-6)


@pytest.mark.gpu
def test_a_step_of_parts_is_captured_on_a_device() -> None:
    (bench, begun), device = _bench(), torch.device("cuda")
    for observer in bench.observers:
        observer.network.to(device)
    begun, settings = LoopState.start(begun.images.to(device)), changed(SETTINGS, iterations=9)
    found, captured = list[Tensor](), CapturedRecover(TORCH_PIXEL_KERNELS)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        for at_once, how in ((None, None), (3, captured)):
            _see(bench, at_once)
            found.append(bench.run(begun, settings, captured=how).images)
    steps = list(captured._calls.values())
    assert all(isinstance(step, CapturedStep) and step.graph is not None for step in steps)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-3)


@contextmanager
def _counted(network: nn.Module) -> Iterator[list[int]]:
    sizes: list[int] = []
    handle = network.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    yield sizes
    handle.remove()


def _gradient(observer: Observer, images: Tensor) -> None:
    leaf = images.clone().requires_grad_()
    logits, _ = observer.measured(leaf, PATCH_SIDE)
    torch.autograd.grad(logits.sum(), leaf)


def test_a_batch_that_fits_is_seen_once_and_whole_and_parts_once_more_only_for_a_gradient() -> None:
    observer, images = _plain(), random_images(COUNT, 3)
    observer.images_at_once = COUNT
    with _counted(observer.network) as sizes:
        _gradient(observer, images)
        assert sizes == [COUNT]
    observer.images_at_once = 3
    with _counted(observer.network) as sizes, torch.no_grad():
        observer.measured(images, PATCH_SIDE)
        observer.logits(images)
        assert sizes == [3, 3, 1] * 2
    with _counted(observer.network) as sizes:
        _gradient(observer, images)
        assert sizes == [3, 3, 1, 1, 3, 3]
