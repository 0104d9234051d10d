"""events.jsonl."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edc_ray.artifacts.storage.layout import EVENT_LOG
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.errors import ArtifactError
from edc_ray.stages.units import event_log
from edc_ray.stages.units.event_log import EventLog, read_events
from tests.stages.tiny_runs import new_root


@pytest.fixture
def store() -> Store:
    return open_store(f"{new_root()}/run")


def test_a_store_without_a_log_has_no_events(store: Store) -> None:
    assert read_events(store) == []


def test_events_come_back_in_order_with_their_time(store: Store) -> None:
    log = EventLog(store)
    for number in range(3):
        log({"event": "stage_done", "stage": "init", "number": number})
    events = read_events(store)
    assert [event["number"] for event in events] == [0, 1, 2]
    assert all(event["time"] > 1.7e9 for event in events)
    assert log.events == events


def test_a_second_call_keeps_the_events_of_the_first(store: Store) -> None:
    EventLog(store)({"event": "stage_done", "number": 1})
    second = EventLog(store)
    second({"event": "stage_done", "number": 2})
    assert [event["number"] for event in read_events(store)] == [1, 2]
    assert [event["number"] for event in second.events] == [2]


def test_events_of_units_are_stored_with_the_next_stage_event_or_when_it_is_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(store)
    log({"event": "unit_done", "unit": "a"})
    assert read_events(store) == []
    log({"event": "stage_done"})
    assert [event["event"] for event in read_events(store)] == ["unit_done", "stage_done"]
    monkeypatch.setattr(event_log, "_SECONDS_BETWEEN_WRITES", -1.0)
    log({"event": "unit_failed", "unit": "b"})
    assert len(read_events(store)) == 3


def test_on_a_full_disk_the_log_waits_tells_it_once_and_ends_no_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> bool:
        raise ArtifactError("no space left")

    log = EventLog(replace(store, patience=600.0))
    monkeypatch.setattr(Store, "publish", full)
    log({"event": "stage_failed", "stage": "init"})
    log.write()
    log({"event": "stage_done", "stage": "init"})
    (told,) = caplog.messages
    assert "no space left" in told
    monkeypatch.undo()
    log.write()
    assert [event["event"] for event in read_events(store)] == ["stage_failed", "stage_done"]


def test_write_stores_what_is_pending(store: Store) -> None:
    log = EventLog(store)
    log({"event": "unit_done", "unit": "a"})
    log.write()
    assert [event["unit"] for event in read_events(store)] == ["a"]


def test_a_damaged_line_is_left_out_and_the_others_are_read(store: Store) -> None:
    log = EventLog(store)
    log({"event": "stage_done", "number": 1})
    whole = store.read(EVENT_LOG)
    store.publish(EVENT_LOG, whole + b'{"event": "unit_do\n\xff\xfe\n[1]\n' + whole, replace=True)
    assert [event["number"] for event in read_events(store)] == [1, 1]
    EventLog(store)({"event": "stage_done", "number": 2})
    assert [event["number"] for event in read_events(store)] == [1, 1, 2]
