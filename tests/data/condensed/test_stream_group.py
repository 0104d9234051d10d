"""Two processes of a torch.distributed group read one condensed set, each with a loader that has workers."""

from __future__ import annotations

import json
import multiprocessing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed
from torch.utils.data import DataLoader

from edc_ray.artifacts.storage.store import open_store
from edc_ray.data.condensed.images import CondensedViews
from edc_ray.data.condensed.stream import CondensedDataset, ViewBatch
from edc_ray.errors import ConfigError
from tests.data.written_sets import EPOCHS, SLOTS, write_images, write_labels

WORLD_SIZE, STOP = 2, 5
"""Processes, and after how many batches they are stopped: in the middle of the second epoch."""


def _read(rank: int, url: str, folder: str) -> None:
    """A process of the group: reads five batches, and the others after a new start from the stored state."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORLD_SIZE)
    shown = list[ViewBatch]()
    # A spawned process spawns by default, which takes each worker three seconds.
    load = partial(DataLoader, batch_size=None, multiprocessing_context="fork")
    for batch in load(CondensedDataset(url, batch_size=1), num_workers=2):
        shown.append(batch)
        if len(shown) == STOP:
            break
    state = CondensedDataset(url, batch_size=1).state_dict(after=shown[-1])
    dataset = CondensedDataset(url, batch_size=1)
    dataset.load_state_dict(state)
    shown += load(dataset, num_workers=1)
    together = torch.tensor([len(batch.label) for batch in shown])
    distributed.all_reduce(together)  # as gradients are: it hangs or fails if the numbers of steps differ
    places = [(batch.epoch, batch.step, len(batch.label)) for batch in shown]
    images = torch.cat([batch.image for batch in shown])
    np.savez(f"{folder}/{rank}.npz", together=together.numpy(), places=places, images=images.numpy())
    Path(folder, f"{rank}.json").write_text(json.dumps(state))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """URL of a set, and what the processes of a group have kept of it."""
    folder = tmp_path_factory.mktemp("group")
    store = open_store(str(folder / "run"))
    write_labels(store, write_images(store))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        context = multiprocessing.get_context("spawn")
        processes = [
            context.Process(target=_read, args=(rank, store.url, str(folder))) for rank in range(WORLD_SIZE)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(100)
            assert process.exitcode == 0
    return store.url, folder


def test_the_processes_make_the_same_steps_and_each_view_comes_to_one_of_them(
    group: tuple[str, Path],
) -> None:
    url, folder = group
    ranks = [np.load(folder / f"{rank}.npz") for rank in range(WORLD_SIZE)]
    one, other = (rank["places"] for rank in ranks)
    np.testing.assert_array_equal(one, other)
    steps = len(SLOTS) // WORLD_SIZE
    assert one[:, :2].tolist() == [[epoch, step] for epoch in range(EPOCHS) for step in range(steps)]
    assert ranks[0]["together"].tolist() == [WORLD_SIZE] * EPOCHS * steps
    for epoch in range(EPOCHS):
        shown = [image.tobytes() for rank in ranks for image in rank["images"][one[:, 0] == epoch]]
        views = CondensedViews(url, epoch=epoch)
        stored = [image.numpy().tobytes() for image in views.batch(range(len(views)))[0]]
        assert sorted(shown) == sorted(stored)


def test_a_group_of_another_size_goes_on_at_an_epoch_and_not_within_one(group: tuple[str, Path]) -> None:
    url, folder = group
    state, other = (json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD_SIZE))
    assert state == other  # so one process's state does for all
    assert (state["epoch"], state["step"]) == (1, 2)
    for rank, world_size in ((0, 1), (2, 3)):
        dataset = CondensedDataset(url, batch_size=1, rank=rank, world_size=world_size)
        with pytest.raises(ConfigError, match="cannot go on in the middle of an epoch"):
            dataset.load_state_dict(state)
        dataset.load_state_dict(state | {"step": 0})
        places = [(batch.epoch, batch.step) for batch in dataset]
        steps = range(len(SLOTS) // world_size)
        assert places == [(epoch, step) for epoch in (1, 2) for step in steps]
