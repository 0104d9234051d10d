from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from edc_ray.data.real.images import DenseImages, EncodedImages, ImageSet
from edc_ray.data.real.undecoded import Decoding, MemoryReader
from edc_ray.stages.units import resident
from edc_ray.stages.units.resident import ResidentImages, free_bytes
from tests.data.made_images import synthetic_images

CPU = torch.device("cpu")
SOME = np.array([7, 0, 7, 11])


def _counted(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images of the set are fetched by each call from here on."""
    calls: list[int] = []
    real = images.fetch

    def fetch(indices: np.ndarray) -> np.ndarray:
        calls.append(len(indices))
        time.sleep(0.02)  # for threads to come in between
        return real(indices)

    monkeypatch.setattr(images, "fetch", fetch)
    return calls


def _encoded(dense: DenseImages) -> EncodedImages:
    reader = MemoryReader(dense.images.transpose(0, 2, 3, 1), "made")
    return EncodedImages(reader, np.arange(len(dense)), dense.labels, dense.class_names, Decoding(3, 8))


def test_a_decoded_set_of_a_quarter_of_the_free_memory_is_copied_once_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = synthetic_images(3, 4, 8, 3)
    expected, calls = images.fetch(SOME), _counted(images, monkeypatch)
    monkeypatch.setattr(resident, "_COPIED_AT_ONCE", 5 * images.images[0].nbytes)
    there = ResidentImages(lambda device: 4 * images.images.nbytes)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: there.pixels(images, SOME, CPU), range(8)))
    assert all(np.array_equal(each.numpy(), expected) for each in found)
    assert calls == [5, 5, 2]


def test_other_sets_are_fetched_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = synthetic_images(3, 4, 8, 3)
    for images, free in ((dense, 4 * dense.images.nbytes - 1), (_encoded(dense), 1 << 40)):
        expected, calls = images.fetch(SOME), _counted(images, monkeypatch)
        there = ResidentImages(lambda device, free=free: free)
        for _ in range(2):
            assert np.array_equal(there.pixels(images, SOME, CPU).numpy(), expected)
        assert calls == [len(SOME)] * 2


def test_each_set_has_its_own_copy() -> None:
    one, other = synthetic_images(3, 4, 8, 3, seed=0), synthetic_images(3, 4, 8, 3, seed=1)
    there = ResidentImages(lambda device: 1 << 40)
    for images in (one, other, one):
        assert np.array_equal(there.pixels(images, SOME, CPU).numpy(), images.fetch(SOME))


def test_on_a_cpu_nothing_is_copied() -> None:
    assert free_bytes(CPU) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_on_cuda_copied_and_fetched_images_are_those_of_the_set() -> None:
    cuda, dense = torch.device("cuda"), synthetic_images(3, 4, 8, 3)
    there = ResidentImages()
    for images in (dense, _encoded(dense)):
        found = there.pixels(images, SOME, cuda)
        assert found.is_cuda
        assert np.array_equal(found.cpu().numpy(), dense.fetch(SOME))
    # Pinned memory is given to the next batch only when the copy is done.
    torch.cuda._sleep(10**8)
    copies = [_encoded(dense).fetch_to(cuda, np.full(1000, number)) for number in range(12)]
    for number, copy in enumerate(copies):
        assert np.array_equal(copy[[0, -1]].cpu().numpy(), dense.fetch([number, number]))
