"""Ctrl-C and SIGTERM: the latter does as the former, and neither comes while a thread imports.

An interrupt in the middle of an import could leave a module's lock taken, and the thread would wait for ever.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)
_received = {signal.SIGINT}  # and SIGTERM once it came


def terminations_interrupt() -> None:
    """From now on SIGTERM raises KeyboardInterrupt as Ctrl-C does, so that the work ends in order."""

    def terminated(number: int, frame: FrameType | None) -> None:
        _received.add(signal.SIGTERM)
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):  # a shell lets its background jobs ignore Ctrl-C
            raise KeyboardInterrupt
        handler(number, frame)

    signal.signal(signal.SIGTERM, terminated)


def status_of_interrupt() -> int:
    """The exit status after a KeyboardInterrupt: 143 if SIGTERM caused it, else 130."""
    return 128 + (signal.SIGTERM if signal.SIGTERM in _received else signal.SIGINT)


@contextmanager
def keeping_terminations() -> Iterator[None]:
    """Give SIGTERM back its handler after the block: Ray's own prints a trace and aborts."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def interrupts_wait_for(thread_work: Future[Any]) -> Iterator[None]:
    """Within the block, an interrupt comes when `thread_work` is done. Outside the main thread: no change."""
    handled = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handled):
        yield
        return
    is_waiting = threading.Event()

    def interrupted(number: int, frame: FrameType | None) -> None:
        if is_waiting.is_set() and not thread_work.done():
            os._exit(128 + number)  # asked twice; nothing is begun, and what the thread started ends with us
        is_waiting.set()  # first, so that it is not missed by work that ends now
        if not thread_work.done():
            logger.info("interrupted; this ends when Ray has started, or at once if you interrupt again")
            return
        is_waiting.clear()
        handled(number, frame)

    signal.signal(signal.SIGINT, interrupted)
    thread_work.add_done_callback(lambda _: is_waiting.is_set() and _thread.interrupt_main())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handled)
