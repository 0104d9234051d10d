from __future__ import annotations

import errno
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edc_ray.artifacts.storage import local_files, patience
from edc_ray.artifacts.storage.patience import give_up_waiting, patiently
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.errors import ArtifactError, StorageError


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("time.monotonic", found.monotonic)
    monkeypatch.setattr(patience, "_sleep", lambda seconds, _: found.sleep(seconds))
    monkeypatch.setattr(patience, "_told_at", [-1e9])
    return found


class Failing:
    """Fails so many times, then works."""

    def __init__(self, times: int, error: Exception) -> None:
        self.times, self.error, self.calls = times, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "done"


GONE = StorageError("cannot write /data/a", found="OSError: no space left")


def test_what_fails_for_a_while_is_tried_again_with_growing_pauses(clock: Clock) -> None:
    action = Failing(6, GONE)
    assert patiently(600, action) == "done"
    assert action.calls == 7
    assert 1 <= clock.pauses[0] < 3
    assert clock.pauses[0] < clock.pauses[-1] <= 15


def test_after_its_seconds_the_last_error_is_raised(clock: Clock) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        patiently(60, Failing(10**6, GONE))
    assert 45 <= clock.now - 1000 <= 90


def test_without_patience_and_for_other_errors_there_is_one_try(clock: Clock) -> None:
    for seconds, error in [(0, GONE), (600, ArtifactError("damaged")), (600, ValueError("wrong"))]:
        action = Failing(1, error)
        with pytest.raises(type(error)):
            patiently(seconds, action)
        assert action.calls == 1
    assert not clock.pauses


def test_waiting_is_told_once_a_minute_and_so_is_its_end(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        patiently(600, Failing(11, GONE))
    waited = sum(clock.pauses)
    told = [line for line in caplog.messages if line.startswith("storage fails: cannot write /data/a")]
    assert waited > 60
    assert 1 < len(told) <= 1 + waited // 60
    assert "it is tried again for 600 s (storage.patience_seconds)" in told[0]
    assert caplog.messages[-1] == f"storage works again, after {waited:.0f} s"


@pytest.mark.parametrize("name", ["ENOSPC", "EROFS", "EIO", "EACCES", "EPERM", "ESTALE", "EDQUOT"])
def test_a_write_waits_for_a_local_disk(
    name: str, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = local_files.publish_local, [OSError(getattr(errno, name), "no")] * 3

    def publish(*arguments: Any, **more: Any) -> bool:
        if failures:
            raise failures.pop()
        return real(*arguments, **more)

    monkeypatch.setattr("edc_ray.artifacts.storage.store.publish_local", publish)
    store = Store(str(tmp_path), patience=600)
    assert store.publish("a", b"content")
    assert (store.read("a"), len(clock.pauses)) == (b"content", 3)


def test_a_read_waits_for_an_object_store_and_not_for_a_file_that_is_missing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store("memory://patience", patience=600)
    store.publish("a", b"content")
    fs, failures = store._file_system(), [ConnectionError("reset"), TimeoutError("slow")]
    real = type(fs).cat_file

    def cat_file(self: Any, *arguments: Any, **more: Any) -> bytes:
        if failures:
            raise failures.pop()
        return real(self, *arguments, **more)

    monkeypatch.setattr(type(fs), "cat_file", cat_file)
    assert store.read("a") == b"content"
    assert len(clock.pauses) == 2
    with pytest.raises(ArtifactError, match="is missing"):
        store.read("b")
    assert len(clock.pauses) == 2


def test_what_waiting_does_not_mend_is_told_at_once(clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = Store(str(tmp_path), patience=600)
    with pytest.raises(ArtifactError, match="cannot write"):
        store.publish("file/a", b"")
    assert not clock.pauses


def test_a_folder_that_cannot_be_written_at_the_start_is_refused_at_once(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def publish(*_: Any, **__: Any) -> bool:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr("edc_ray.artifacts.storage.store.publish_local", publish)
    with pytest.raises(ArtifactError, match="cannot write"):
        open_store(str(tmp_path))
    assert not clock.pauses


def test_who_waits_gives_up_when_told_and_later_calls_wait_again(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.monotonic()
    threading.Timer(0.1, give_up_waiting).start()
    with pytest.raises(StorageError):
        patiently(60, Failing(100, GONE))
    assert time.monotonic() - begun < 10
    monkeypatch.setattr(patience, "_sleep", lambda *_: None)
    assert patiently(60, Failing(1, GONE)) == "done"
