from __future__ import annotations

import json
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.data.condensed.images import CondensedViews
from edc_ray.data.condensed.stream import CondensedDataset, ViewBatch, steps_of
from edc_ray.errors import ConfigError
from tests.data.written_sets import SLOTS, write_images, write_labels

UNITS = ((0, 1), (2, 4))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "run"))
    write_labels(store, write_images(store), units=UNITS)
    return store


def _same(one: list[ViewBatch], other: list[ViewBatch]) -> bool:
    return len(one) == len(other) and all(
        x[3:] == y[3:] and all(map(torch.equal, x[:3], y[:3])) for x, y in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("codec", ["fp16", "q4", "pca2_top1_q4"])
@pytest.mark.parametrize("place", ["file", "memory", "s3"])
def test_batches_are_bit_for_bit_the_views_that_were_labelled(
    place: str, codec: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    urls = {"file": f"file://{tmp_path}/run", "memory": f"memory://{uuid.uuid4().hex}/run"}
    url = urls.get(place) or request.getfixturevalue("s3_url")
    store = open_store(url)
    expected = write_labels(store, write_images(store), codec=codec, units=UNITS)
    dataset = CondensedDataset(url, batch_size=4, shuffle_seed=None, cache=str(tmp_path / "cache"))
    for (images, rows), step in zip(expected, zip(*[iter(dataset)] * 2, strict=True), strict=True):
        image, logits, label = (torch.cat([batch[field] for batch in step]) for field in range(3))
        assert torch.equal(image, images)
        np.testing.assert_array_equal(logits.numpy(), rows.logits.astype(np.float32))
        np.testing.assert_array_equal(label.numpy(), rows.label)


def test_a_dataset_says_how_many_batches_it_has(store: Store) -> None:
    dataset = CondensedDataset(store.url, batch_size=4)
    assert (
        repr(dataset) == f"CondensedDataset: {len(dataset)} batches of up to 4, {dataset.num_epochs} epochs"
    )


def test_a_shuffled_epoch_shows_each_view_once_in_an_order_of_its_own(store: Store) -> None:
    orders = []
    for epoch, views in enumerate(CondensedViews(store.url, epoch=k) for k in range(5)):
        batches = [batch for batch in CondensedDataset(store.url, batch_size=1) if batch.epoch == epoch]
        everyone = views.batch(range(len(views)))[0]
        orders.append([int((everyone == batch.image).flatten(1).all(1).nonzero()[0]) for batch in batches])
    assert all(sorted(order) == list(range(len(SLOTS))) for order in orders)
    assert len({tuple(order) for order in orders}) > 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_loader_gives_the_same_batches_with_any_number_of_workers(store: Store, workers: int) -> None:
    dataset = CondensedDataset(store.url, batch_size=2)
    alone = list(dataset)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    assert _same(list(loader), alone)
    assert len(loader) == len(alone) == 15


@pytest.mark.parametrize(("batch_size", "world_size"), [(1, 1), (1, 2), (2, 2), (1, 5), (2, 3), (100, 6)])
def test_the_ranks_share_every_epoch_and_make_as_many_steps(
    store: Store, batch_size: int, world_size: int
) -> None:
    ranks = [
        list(CondensedDataset(store.url, batch_size=batch_size, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert len({tuple((one.epoch, one.step) for one in batches) for batches in ranks}) == 1
    for epoch in range(5):
        shown = torch.cat([one.image for batches in ranks for one in batches if one.epoch == epoch])
        views = CondensedViews(store.url, epoch=epoch)
        everyone = views.batch(range(len(views)))[0]
        assert sorted(map(_key, shown)) == sorted(map(_key, everyone))


def _key(image: torch.Tensor) -> bytes:
    return image.numpy().tobytes()


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 9), st.booleans())
def test_steps_are_complete_and_leave_no_rank_without_rows(
    count: int, batch_size: int, world_size: int, drop_last: bool
) -> None:
    count = max(count, world_size)
    steps = steps_of(count, batch_size, world_size, drop_last=drop_last)
    rows = [row for step in steps for row in range(count)[step]]
    assert rows == list(range(len(rows)))
    assert len(rows) == count or (drop_last and count - len(rows) < batch_size * world_size)
    shares = [len(range(count)[step][rank::world_size]) for step in steps for rank in range(world_size)]
    assert min(shares) >= (2 if batch_size > 1 and count >= 2 * world_size else 1)
    assert max(shares) <= batch_size + 2
    if drop_last and len(steps) > 1:
        assert set(shares) == {batch_size}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_goes_on_after_any_batch(store: Store, workers: int) -> None:
    whole = list(CondensedDataset(store.url, batch_size=4, num_epochs=3))
    for place, last in enumerate(whole):
        dataset = CondensedDataset(store.url, batch_size=4, num_epochs=3)
        state = json.loads(json.dumps(dataset.state_dict(after=last)))
        dataset.load_state_dict(state)
        if place % 2 and workers:
            continue  # starting workers takes a while
        assert _same(list(DataLoader(dataset, batch_size=None, num_workers=workers)), whole[place + 1 :])
        assert len(dataset) == len(whole) - place - 1


def test_the_state_follows_what_was_yielded(store: Store) -> None:
    dataset = CondensedDataset(store.url, batch_size=4)
    whole, batches = list(dataset), iter(dataset)
    for batch, expected in zip(whole, batches, strict=True):
        assert dataset.state_dict() == dataset.state_dict(after=expected)
        assert batch.step == expected.step
    other = CondensedDataset(store.url, batch_size=4)
    other.load_state_dict(dataset.state_dict())
    assert list(other) == []


def test_a_stream_of_other_batches_cannot_go_on_in_the_middle_of_an_epoch(store: Store) -> None:
    dataset = CondensedDataset(store.url, batch_size=4)
    state = dataset.state_dict(after=next(iter(dataset)))
    with pytest.raises(ConfigError, match="cannot resume in the middle of an epoch"):
        CondensedDataset(store.url, batch_size=2).load_state_dict(state)
    CondensedDataset(store.url, batch_size=2).load_state_dict(state | {"epoch": 1, "step": 0})
    for epoch, step in ((5, 1), (6, 0), (0, 2), (-1, 0), (0, -1)):
        with pytest.raises(ConfigError, match=f"epoch {epoch}, step {step} does not exist"):
            dataset.load_state_dict(state | {"epoch": epoch, "step": step})


def test_more_epochs_than_are_stored_show_the_same_views_in_other_batches(store: Store) -> None:
    batches = list(CondensedDataset(store.url, batch_size=6, num_epochs=7))
    first, again = batches[0], batches[5]
    assert (again.epoch, sorted(map(_key, first.image))) == (5, sorted(map(_key, again.image)))
    assert not torch.equal(first.image, again.image)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"batch_size": 0}, "batch_size is too small"),
        ({"num_epochs": 0}, "num_epochs is too small"),
        ({"rank": 2, "world_size": 2}, "rank 2 does not exist"),
        ({"rank": -1}, "rank -1 does not exist"),
        ({"world_size": 7, "rank": 0}, "fewer views than the group has processes"),
    ],
)
def test_what_cannot_be_dealt_out_is_refused(store: Store, arguments: dict[str, int], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        CondensedDataset(store.url, **arguments)  # pyright: ignore[reportArgumentType]


def test_an_error_of_the_reading_thread_reaches_who_iterates(store: Store) -> None:
    batches = iter(CondensedDataset(store.url, batch_size=6))
    next(batches)
    path = next(path for path in store.list("labels") if "00002" in path and path.endswith(".parquet"))
    store.publish(path, b"broken", replace=True)
    with pytest.raises(Exception, match="is damaged"):
        list(batches)
