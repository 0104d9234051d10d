"""Memory that is too little for a batch: how it is taken in parts."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from edc_ray.core.captured_step import CapturedForward
from edc_ray.errors import ResourceError
from edc_ray.stages.units import images_at_once
from edc_ray.stages.units.images_at_once import ImagesAtOnce
from tests.stages.little_memory import OUT_OF_MEMORY, Hungry

CPU = torch.device("cpu")


def test_memory_that_is_enough_changes_nothing() -> None:
    at_once, network, images = ImagesAtOnce(), Hungry(8), torch.randn(8, 3)
    made: list[Tensor] = []

    def compute(given: Tensor) -> Tensor:
        assert given is images
        made.append(network(given))
        return made[-1]

    assert at_once.forward("statistics", "a", compute, images) is made[0]
    assert at_once.facts("statistics") == {}


@pytest.mark.parametrize("dim", [0, 1])
def test_a_batch_is_halved_until_it_fits_and_the_next_one_begins_there(dim: int) -> None:
    at_once, network, images = ImagesAtOnce(), Hungry(3), torch.randn(11, 3)

    def compute(given: Tensor) -> Tensor:
        return network(given).movedim(0, dim)

    with pytest.warns(
        UserWarning, match=r"^statistics: memory was too little for 11 .* so a now sees 3 at a"
    ):
        found = at_once.forward("statistics", "a", compute, images, dim=dim)
    assert torch.equal(found, (images * 2).movedim(0, dim))
    assert network.sizes == [11, 6, 3, 3, 3, 2]
    network.sizes.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        at_once.forward("statistics", "a", compute, images, dim=dim)
        assert network.sizes == [3, 3, 3, 2]
        # Other networks and other work have memory of their own.
        other = Hungry(2)
        at_once.forward("statistics", "b", other, images[:4])  # told once for all networks
    with pytest.warns(UserWarning, match="^accuracy: "):
        at_once.forward("accuracy", "a", Hungry(5), images)
    assert at_once.facts("statistics") == {"images_at_once": 2}
    assert at_once.facts("accuracy") == {"images_at_once": 3}


def test_what_a_failed_attempt_held_is_free_before_the_next() -> None:
    held: list[weakref.ref[Tensor]] = []

    def work(images: int | None) -> int:
        assert all(each() is None for each in held)
        mine = torch.zeros(3)
        held.append(weakref.ref(mine))
        again: Callable[[], object] = lambda: (mine, again)  # noqa: E731 (a circle, which only gc frees)
        if images is None or images > 2:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return images

    gc.disable()
    try:
        with pytest.warns(UserWarning, match="so observers now sees 2|so an observer now sees 2"):
            assert ImagesAtOnce().attempt("recover", "an observer", work, 8, CPU) == 2
    finally:
        gc.enable()
    assert len(held) == 3


@pytest.mark.parametrize("has_it", [True, False])
def test_on_a_cpu_the_allocator_gives_back_what_is_free(
    has_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[int] = []
    library = SimpleNamespace(**{"malloc_trim": given_back.append} if has_it else {})
    monkeypatch.setattr(images_at_once.ctypes, "CDLL", lambda _: library)
    with pytest.warns(UserWarning, match="so a now sees 2"):
        ImagesAtOnce().forward("statistics", "a", Hungry(3), torch.randn(4, 2))
    assert given_back == [0] * has_it


def test_memory_too_little_for_one_image_is_an_error_that_says_what_to_lower() -> None:
    at_once, network = ImagesAtOnce(), Hungry(0)
    with pytest.raises(
        ResourceError,
        match=r"recover: memory is too little for an observer, even for one image at a time\n"
        r"(.|\n)*CUDA out of memory(.|\n)*recover.classes_per_unit and recover.ipc_per_unit",
    ) as caught:
        at_once.forward("recover", "an observer", network, torch.randn(3, 2))
    assert network.sizes == [3, 2, 1]
    # It would keep what the attempt had in memory.
    assert caught.value.__context__ is None


def test_another_error_is_raised_as_it_is_and_at_once() -> None:
    calls = []

    def broken(images: Tensor) -> Tensor:
        calls.append(len(images))
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side assert"):
        ImagesAtOnce().forward("statistics", "a", broken, torch.randn(4, 2))
    assert calls == [4]


def test_a_captured_forward_keeps_nothing_of_a_size_that_did_not_fit() -> None:
    forward = CapturedForward(Hungry(3), CPU)
    images = torch.randn(8, 2)
    with pytest.warns(UserWarning, match="so a now sees 2"):
        found = ImagesAtOnce().forward("statistics", "a", forward, images)
    assert torch.equal(found, images * 2)
    assert [shape[0] for shape, _ in forward._sizes] == [2]


@pytest.mark.gpu
def test_on_a_device_with_too_little_memory_a_batch_is_taken_in_parts() -> None:
    device = torch.device("cuda")
    total = torch.cuda.get_device_properties(device).total_memory
    images = torch.ones(8, 1 << 20, device=device)

    def compute(given: Tensor) -> Tensor:
        return (given.repeat(1, 16) + 1).sum(1)  # 64 MiB an image, twice

    expected = compute(images[:1]).expand(8)
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved(device) + (400 << 20)
    try:
        torch.cuda.set_per_process_memory_fraction(room / total, device)
        for forward in (compute, CapturedForward(compute, device)):
            at_once = ImagesAtOnce()
            with pytest.warns(UserWarning, match="memory was too little"):
                found = at_once.forward("statistics", "a", forward, images)
            assert torch.equal(found, expected)
            assert at_once.facts("statistics")["images_at_once"] < 4
            del forward
        with pytest.raises(ResourceError, match=r"the device has \d+.\d GiB"):
            ImagesAtOnce().forward("statistics", "a", lambda given: given.repeat(1, 200), images)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
