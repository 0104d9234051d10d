"""Many batches in one go are the batches by themselves, and cost a step a few operations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from edc_ray.config.load import with_fields
from edc_ray.stages.evaluate import stage as evaluate
from edc_ray.stages.evaluate.rows import row_of
from edc_ray.stages.squeeze import stage as squeeze
from edc_ray.stages.units import rendering
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.rendering import Batches, consecutive, images_of_a_forward, rendered_batches
from tests.stages.tiny_runs import manifest_of, run_until, units_of

VIEW_BYTES = 4 * 8 * 8
"""Of the tiny run's images."""


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [
        ([3, 3, 3, 1], 6, [range(2), range(2, 4)]),
        ([3, 3, 3, 1], 0, [range(1), range(1, 2), range(2, 3), range(3, 4)]),
        ([9, 1, 1], 2, [range(1), range(1, 3)]),
        ([1, 9], 2, [range(1), range(1, 2)]),
        ([3, 3], 100, [range(2)]),
        ([], 5, []),
    ],
)
def test_runs_hold_as_much_as_they_may_or_one_thing(
    sizes: list[int], most: int, expected: list[range]
) -> None:
    assert list(consecutive(sizes, most)) == expected


class Rendering:
    """Three epochs of batches of 2, 2 and 1 numbers, and what was asked for, and when."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.made: list[tuple[int, range]] = []
        self.threads: set[int] = set()

    def epochs(self) -> Iterator[Batches]:
        for epoch in range(3):
            self.read.append(epoch)

            def render(numbers: range, epoch: int = epoch) -> tuple[Tensor, Tensor]:
                self.made.append((epoch, numbers))
                self.threads.add(threading.get_ident())
                rows = torch.arange(5)[2 * numbers.start : 2 * numbers.stop]
                return 10 * epoch + rows, rows.double()

            yield [2, 2, 1], render


EXPECTED = [[10 * epoch + row for row in rows] for epoch in range(3) for rows in ([0, 1], [2, 3], [4])]


@pytest.mark.parametrize("in_a_thread", [False, True])
@pytest.mark.parametrize("rows", [0, 4, 100])
def test_batches_come_in_order_whatever_is_made_in_one_go(
    finished: StageContext, monkeypatch: pytest.MonkeyPatch, rows: int, in_a_thread: bool
) -> None:
    monkeypatch.setitem(rendering.CHUNK_BYTES, "cpu", rows * VIEW_BYTES)
    asked = Rendering()
    found = list(rendered_batches(asked.epochs(), finished, in_a_thread=in_a_thread))
    assert [one.tolist() for one, _ in found] == EXPECTED
    assert all(torch.equal(one % 10, other) for one, other in found)
    runs = {0: [range(1), range(1, 2), range(2, 3)], 4: [range(2), range(2, 3)], 100: [range(3)]}[rows]
    assert asked.made == [(epoch, run) for epoch in range(3) for run in runs]
    assert (asked.threads == {threading.get_ident()}) != in_a_thread


def test_on_a_cpu_a_batch_is_made_when_it_is_wanted(finished: StageContext) -> None:
    asked = Rendering()
    batches = rendered_batches(asked.epochs(), finished)
    for _ in range(4):
        next(batches)
    assert asked.made == [(0, range(1)), (0, range(1, 2)), (0, range(2, 3)), (1, range(1))]
    assert asked.read == [0, 1]


def test_a_forward_takes_what_fills_the_device_and_on_a_cpu_what_is_asked_for(
    finished: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert images_of_a_forward(finished, 3) == 3
    monkeypatch.setitem(rendering.FORWARD_BYTES, "cpu", 20 * VIEW_BYTES)
    assert images_of_a_forward(finished, 3) == 20
    assert images_of_a_forward(finished, 30) == 30
    monkeypatch.setitem(rendering.FORWARD_BYTES, "cpu", 1 << 40)
    assert images_of_a_forward(finished, 3) == 1024


@pytest.mark.parametrize("augmentation", ["none", "crop_pad", "resized_crop"])
def test_observers_trained_on_batches_made_in_one_go_have_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, augmentation: str
) -> None:
    from tests.stages.tiny_runs import tiny_context

    fields = {"squeeze__augmentation": augmentation, "squeeze__epochs": 2, "dataset__flip": True}
    digests = []
    for rows in (0, 20, 1000):
        monkeypatch.setitem(rendering.CHUNK_BYTES, "cpu", rows * VIEW_BYTES)
        context = tiny_context(squeeze__observers=["convnet_d1"], squeeze__batch_size=8, **fields)
        run_until(context, "squeeze")
        digests.append(context.observer_digests(["convnet_d1"]))
    assert digests[1:] == digests[:1] * 2


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"evaluate__accumulation": 2, "relabel__labels": "online"},
        {"relabel__rand_augment": True, "relabel__mix": "mixup", "relabel__patch_shuffle": 2},
    ],
)
def test_students_of_batches_made_in_one_go_are_the_same(
    copied: Callable[..., StageContext], monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    hashes = []
    for rows in (0, 4, 1000):
        monkeypatch.setitem(rendering.CHUNK_BYTES, "cpu", rows * VIEW_BYTES)
        context = copied(
            "relabel", "evaluate", evaluate__batch_size=2, evaluate__save_students=True, evaluate__seeds=1,
            evaluate__rows=["condensed", "random_hard", "full"], evaluate__full="train", **fields,
        )  # fmt: skip
        run_until(context, "evaluate")
        hashes.append(sorted(shard.sha256 for shard in manifest_of(context, "evaluate").shards))
    assert hashes[1:] == hashes[:1] * 2


def _launches(run: Callable[[], object]) -> int:
    counting = pytest.importorskip("launches", exc_type=ImportError)
    run()  # what is done once in a process
    with counting.LaunchCounter() as counter:
        run()
    return counter.total


@pytest.fixture
def without_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are captured, replays are not counted, and all batches of an epoch are made in one go."""
    monkeypatch.setenv("EDC_RAY_KERNELS", "torch")
    monkeypatch.setitem(rendering.CHUNK_BYTES, "cpu", 1 << 30)
    for stage in (squeeze, evaluate):
        monkeypatch.setattr(stage, "captures_of", lambda *_: lambda *_: lambda: None)


def test_a_further_step_of_an_observer_takes_three_operations_beside_the_replay(
    finished: StageContext, without_steps: None
) -> None:
    def train(batch_size: int) -> None:
        fields = {"squeeze.batch_size": batch_size, "squeeze.augmentation": "crop_pad"}
        context = replace(finished, config=with_fields(finished.config, fields))
        network, _ = squeeze.starting_network(context, "convnet_d1")
        squeeze.train_observer(context, network, "convnet_d1")

    few, many = (_launches(lambda size=size: train(size)) for size in (12, 4))
    assert many - few == 3 * (9 - 3)  # two copies into the step's inputs, and the sum of the losses


def test_a_further_step_of_a_student_takes_four_operations_beside_the_replay(
    finished: StageContext, without_steps: None
) -> None:
    (unit, *_), epochs = units_of(finished, "evaluate"), finished.config.training_epochs

    def train(batch_size: int) -> None:
        context = replace(finished, config=with_fields(finished.config, {"evaluate.batch_size": batch_size}))
        evaluate.train_student(context, unit)

    few, many = (_launches(lambda size=size: train(size)) for size in (3, 2))
    assert many - few == 4 * epochs * (3 - 2)


def test_an_epoch_of_views_takes_less_than_a_hundred_operations(
    finished: StageContext, without_steps: None
) -> None:
    fields = {"squeeze.augmentation": "crop_pad", "squeeze.batch_size": 4, "evaluate.batch_size": 2}
    context = replace(finished, config=with_fields(finished.config, fields))
    row = row_of(context, "condensed", 0)
    counts = (
        _launches(lambda: list(rendered_batches(squeeze._epochs(context, "convnet_d1"), context))),
        _launches(
            lambda: list(rendered_batches((each for _, each in evaluate._epochs(context, row, 0)), context))
        )
        / context.config.training_epochs,
    )
    assert max(counts) < 100, counts


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("rows", [4, 20, 1000])
def test_on_cuda_batches_made_in_one_go_are_those_made_by_themselves(
    finished: StageContext, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    there = replace(finished, device=torch.device("cuda"))
    fields = {"squeeze.augmentation": "resized_crop", "squeeze.batch_size": 4, "evaluate.batch_size": 2}
    there = replace(there, config=with_fields(finished.config, fields))
    found = {}
    for most in (0, rows):
        monkeypatch.setitem(rendering.CHUNK_BYTES, "cuda", most * VIEW_BYTES)
        epochs = (
            squeeze._epochs(there, "convnet_d1"),
            (batches for _, batches in evaluate._epochs(there, row_of(there, "condensed", 0), 0)),
        )
        found[most] = []
        for each in epochs:
            for inputs in rendered_batches(each, there):
                torch.cuda._sleep(10**6)  # the next ones are made while this stream is behind
                found[most].append([tensor.clone() for tensor in inputs])
    for one, other in zip(found[0], found[rows], strict=True):
        for mine, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
