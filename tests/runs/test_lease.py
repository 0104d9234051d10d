from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from edc_ray.artifacts.storage.layout import LEASE
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.errors import ResourceError, StorageError
from edc_ray.runs import lease as module
from edc_ray.runs.lease import Holder, lease


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_RENEWALS", 0.05)
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setattr(module, "_SECONDS_UNTIL_LAPSED", 0.5)


@pytest.fixture
def other_process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def holder(store: Store) -> Holder:
    return Holder(**json.loads(store.read(LEASE)))


def of_process(process: subprocess.Popen[bytes]) -> Holder:
    return replace(Holder.this(), pid=process.pid, begun=module._begun(process.pid))


def write(store: Store, held: Holder) -> None:
    store.publish(LEASE, json.dumps(asdict(held)).encode(), replace=True)


def test_within_the_block_the_folder_says_who_works_there_and_afterwards_nothing(store: Store) -> None:
    with lease(store, "refuse", print):
        held = holder(store)
        assert (held.pid, held.is_here, held.is_alive) == (Holder.this().pid, True, True)
    assert not store.exists(LEASE)


def test_it_is_renewed_while_the_block_lasts(store: Store) -> None:
    with lease(store, "refuse", print):
        first = holder(store)
        time.sleep(0.4)
        assert holder(store) == replace(first, renewals=holder(store).renewals)
        assert holder(store).renewals > 2


def test_a_second_driver_on_this_host_is_told_who_works_there(
    store: Store, other_process: subprocess.Popen[bytes]
) -> None:
    held = of_process(other_process)
    write(store, held)
    with pytest.raises(ResourceError) as caught, lease(store, "refuse", print):
        pass
    assert caught.value.found == f"process {held.pid} on {held.host}, since {held.since}"
    assert "run.when_busy=wait" in str(caught.value.next)
    assert holder(store) == held


def test_the_lease_of_a_process_that_was_killed_here_is_taken_over_at_once(
    store: Store, other_process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LOOKS", 60.0)
    write(store, of_process(other_process))
    other_process.kill()  # not waited for: a zombie is dead, too
    while module._begun(other_process.pid):
        time.sleep(0.01)
    with lease(store, "refuse", print):
        assert holder(store).pid == Holder.this().pid


def test_a_later_process_with_its_number_does_not_keep_a_lease(
    store: Store, other_process: subprocess.Popen[bytes]
) -> None:
    write(store, replace(of_process(other_process), begun="1"))
    with lease(store, "refuse", print):
        assert holder(store).pid == Holder.this().pid


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"machine": "another container"}])
def test_a_lease_from_elsewhere_lapses_if_nobody_renews_it(store: Store, change: dict[str, str]) -> None:
    write(store, replace(Holder.this(), pid=1, **change))
    told: list[str] = []
    begun = time.monotonic()
    with lease(store, "refuse", told.append):
        assert holder(store).is_here
    assert time.monotonic() - begun >= 0.5
    (line,) = told
    assert line.startswith("another edc-ray was at work here: process 1 on ")


def renewed_elsewhere(store: Store, ended: threading.Event) -> Callable[[], None]:
    def renew() -> None:
        held = replace(Holder.this(), host="elsewhere", pid=1)
        while not ended.wait(0.05):
            held = replace(held, renewals=held.renewals + 1)
            write(store, held)
        store.delete(LEASE)

    return renew


def test_a_renewal_proves_that_a_driver_elsewhere_lives(store: Store) -> None:
    ended = threading.Event()
    other = threading.Thread(target=renewed_elsewhere(store, ended))
    other.start()
    time.sleep(0.2)
    try:
        with pytest.raises(ResourceError, match="another edc-ray works in"), lease(store, "refuse", print):
            pass
        with lease(store, "share", print):
            assert holder(store).host == "elsewhere"
    finally:
        ended.set()
        other.join()


def test_waiting_ends_with_the_other_driver_and_is_told_once(store: Store) -> None:
    ended, told = threading.Event(), list[str]()
    other = threading.Thread(target=renewed_elsewhere(store, ended))
    other.start()
    time.sleep(0.2)
    threading.Timer(0.7, ended.set).start()
    with lease(store, "wait", told.append):
        assert ended.is_set()
        assert holder(store).is_here
    other.join()
    assert [line.partition(":")[0] for line in told] == [
        "another edc-ray was at work here",
        "waiting for another edc-ray that works here",
    ]


def test_a_driver_whose_folder_was_taken_over_says_so_and_leaves_the_lease(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with lease(store, "refuse", print):
        write(store, replace(Holder.this(), host="elsewhere"))
        time.sleep(0.3)
    assert holder(store).host == "elsewhere"
    assert "taken over the folder" in caplog.text


def test_what_is_no_lease_is_replaced(store: Store) -> None:
    store.publish(LEASE, b'{"pid": "\xff"')
    with lease(store, "refuse", print):
        assert holder(store).is_here


def test_a_run_whose_storage_fails_does_not_wait_for_it_at_its_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageError("cannot read", found="OSError: the storage has gone")

    begun = time.monotonic()
    with lease(replace(store, patience=60.0), "refuse", print):
        monkeypatch.setattr(Store, "_read_if_there", fail)
    assert time.monotonic() - begun < 1
