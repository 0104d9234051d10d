from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from edc_ray.runs import interrupts
from edc_ray.runs.interrupts import (
    interrupts_wait_for,
    keeping_terminations,
    status_of_interrupt,
    terminations_interrupt,
)


def test_after_the_thread_an_interrupt_comes_at_once() -> None:
    done: Future[None] = Future()
    done.set_result(None)
    with pytest.raises(KeyboardInterrupt), interrupts_wait_for(done):
        signal.raise_signal(signal.SIGINT)


def test_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_wait_for(Future()):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_may_use_it() -> None:
    def block() -> Callable[..., object] | int | signal.Handlers | None:
        with interrupts_wait_for(Future()):
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(block).result() is signal.getsignal(signal.SIGINT)


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interrupts, "_received", {signal.SIGINT})
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a suite in the background lacks
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("ignores_interrupts", [False, True])
def test_a_termination_interrupts_with_a_status_of_its_own(handlers: None, ignores_interrupts: bool) -> None:
    if ignores_interrupts:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    terminations_interrupt()
    assert status_of_interrupt() == 130
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert status_of_interrupt() == 143


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_or_a_termination_comes_when_the_thread_is_done(
    handlers: None, number: signal.Signals
) -> None:
    terminations_interrupt()
    events, go = list[str](), threading.Event()

    def work() -> None:
        go.wait(10)
        events.append("thread")

    def interrupted(started: Future[None]) -> None:
        with interrupts_wait_for(started):
            signal.raise_signal(number)
            events.append("main goes on")
            go.set()
            time.sleep(10)

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
        interrupted(pool.submit(work))
    assert events == ["main goes on", "thread"]
    assert status_of_interrupt() == 128 + number


def test_what_replaces_the_handler_in_a_block_does_not_keep_it(handlers: None) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with keeping_terminations():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is before
