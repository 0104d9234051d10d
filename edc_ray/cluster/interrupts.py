"""Ctrl-C while a thread imports: it could leave a module's lock taken, and the thread would wait for ever."""

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
