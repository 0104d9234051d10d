"""Writers die between the requests to a real server, and the server between the requests of a writer."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from edc_ray.artifacts.proof.garbage import find_garbage, remove_garbage
from edc_ray.artifacts.storage import store as store_module
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.run import STAGE_NAMES
from edc_ray.errors import ArtifactError
from tests.e2e.crashes import (
    check_that_a_rerun_mends,
    check_that_all_is_whole,
    empty,
    kill_at_every_step,
    kill_writers,
    race_writers,
    seeded,
)
from tests.e2e.unit_writer import UnitWriter, whole_files, write_stage
from tests.s3.conftest import Gateway

pytestmark = pytest.mark.s3
MIB = 2**20


@pytest.fixture
def writer(store: Store) -> Iterator[UnitWriter]:
    writer = UnitWriter(store.url)
    yield writer
    writer.close()


@pytest.mark.nightly
def test_a_writer_killed_before_and_after_any_request_leaves_nothing_half(
    store: Store, writer: UnitWriter
) -> None:
    assert kill_at_every_step(store, writer, units=1) > 20


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.nightly)])
def test_writers_killed_at_random_times_leave_nothing_half(
    store: Store, writer: UnitWriter, kills: int
) -> None:
    kill_writers(store, writer, kills=kills, units=2, longest=0.7)


@pytest.mark.parametrize("rounds", [2, pytest.param(50, marks=pytest.mark.nightly)])
def test_of_two_writers_of_different_bytes_one_wins(store: Store, writer: UnitWriter, rounds: int) -> None:
    race_writers(store, writer, rounds=rounds, kill=rounds > 2, longest=1.0)


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything above 10 MiB goes out in parts of 5 MiB."""
    monkeypatch.setattr(store_module, "_ONE_REQUEST", 0)
    monkeypatch.setattr(store_module, "_PART", 5 * MIB)


class Upload(threading.Thread):
    """A writer of one large object through a proxy that is about to be cut off."""

    def __init__(self, store: Store, data: bytes) -> None:
        super().__init__()
        self._store, self._data = store, data
        self.published: bool | None = None
        self.error: ArtifactError | None = None

    def run(self) -> None:
        try:
            self.published = self._store.publish("labels/large.parquet", self._data)
        except ArtifactError as error:
            self.error = error


def wait_for_parts(store: Store) -> None:
    """Until an upload is under way."""
    until = time.monotonic() + 30
    while not store.pending_uploads():
        assert time.monotonic() < until


def test_a_server_killed_in_the_middle_of_an_upload_leaves_no_object(
    store: Store, gateway: Gateway, in_parts: None
) -> None:
    upload = Upload(Store(store.url, gateway.options), b"x" * (40 * MIB))
    upload.start()
    wait_for_parts(store)
    gateway.kill()
    upload.join(60)
    assert upload.error is not None
    assert not store.exists("labels/large.parquet")
    (garbage,) = find_garbage(store, 0, STAGE_NAMES).garbage
    assert (garbage.kind, garbage.path) == ("pending upload", "labels/large.parquet")
    assert find_garbage(store, 3600, STAGE_NAMES).garbage == ()
    remove_garbage(store, [garbage], 0)
    assert store.pending_uploads() == []
    assert store.publish("labels/large.parquet", b"whole")


def test_a_server_that_stands_still_for_a_while_costs_time_only(
    store: Store, gateway: Gateway, in_parts: None
) -> None:
    data = b"x" * (40 * MIB)
    upload = Upload(Store(store.url, gateway.options), data)
    upload.start()
    wait_for_parts(store)
    gateway.process.send_signal(signal.SIGSTOP)
    time.sleep(1)
    assert not store.exists("labels/large.parquet")
    gateway.process.send_signal(signal.SIGCONT)
    upload.join(60)
    assert upload.published
    assert store.read("labels/large.parquet") == data
    assert store.pending_uploads() == []


@pytest.mark.parametrize("deaths", [2, pytest.param(40, marks=pytest.mark.nightly)])
def test_a_server_killed_at_random_times_loses_nothing_that_was_written(
    store: Store, gateway: Gateway, deaths: int
) -> None:
    times, units = seeded(), 3
    whole = whole_files(units)
    through = Store(store.url, gateway.options)
    for _ in range(deaths):
        written = _catch(lambda: write_stage(through, units))
        written.start()
        time.sleep(times.uniform(0, 0.6))
        gateway.kill()
        written.join(60)
        check_that_all_is_whole(store, whole)
        gateway.start()
        check_that_a_rerun_mends(through, units)
        empty(store)


def _catch(work: Callable[[], None]) -> threading.Thread:
    """A thread that does some work, which may fail because the server is gone."""

    def run() -> None:
        try:
            work()
        except ArtifactError as error:
            assert "cannot" in error.summary  # noqa: PT017

    return threading.Thread(target=run)
