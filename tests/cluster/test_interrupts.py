from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from edc_ray.cluster.interrupts import interrupts_wait_for


def test_an_interrupt_comes_when_the_thread_is_done() -> None:
    events, go = list[str](), threading.Event()

    def work() -> None:
        go.wait(10)
        events.append("thread")

    def interrupted(started: Future[None]) -> None:
        with interrupts_wait_for(started):
            signal.raise_signal(signal.SIGINT)
            events.append("main goes on")
            go.set()
            time.sleep(10)

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
        interrupted(pool.submit(work))
    assert events == ["main goes on", "thread"]


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
