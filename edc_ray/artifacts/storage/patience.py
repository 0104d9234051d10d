"""Trying again while storage fails: a full disk, a read-only mount, an object store that does not answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential_jitter,
)

from edc_ray.errors import StorageError

Out = TypeVar("Out")
logger = logging.getLogger(__name__)

_LONGEST_PAUSE = 15.0
_SECONDS_BETWEEN_WARNINGS = 60.0
_told_at = [-_SECONDS_BETWEEN_WARNINGS]
_given_up = [threading.Event()]  # of those that wait now


def give_up_waiting() -> None:
    """What waits for storage in this process fails now, in all threads: somebody interrupts it."""
    before, _given_up[0] = _given_up[0], threading.Event()
    before.set()


def patiently(seconds: float, action: Callable[[], Out]) -> Out:
    """The result of `action`, tried again for so many seconds after each `StorageError`. 0: tried once.

    Pauses grow from a second to 15. A warning says that it waits, at most one each minute in a
    process, and a line says that storage works again.

    Raises:
        StorageError: that of the last try, also after `give_up_waiting`.
    """
    if seconds == 0:
        return action()
    begun, given_up = time.monotonic(), _given_up[0]

    def warn(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if time.monotonic() - _told_at[0] < _SECONDS_BETWEEN_WARNINGS or not isinstance(error, StorageError):
            return
        _told_at[0] = time.monotonic()
        left = seconds - (time.monotonic() - begun)
        logger.warning(
            "storage fails: %s (%s); results wait, and it is tried again for %.0f s "
            "(storage.patience_seconds)", error.summary, error.found, left,
        )  # fmt: skip

    retrying = Retrying(
        sleep=lambda pause: _sleep(pause, given_up),
        stop=stop_after_delay(seconds) | stop_when_event_set(given_up),
        wait=wait_exponential_jitter(max=_LONGEST_PAUSE),
        retry=retry_if_exception_type(StorageError),
        before_sleep=warn,
        reraise=True,
    )
    result = retrying(action)
    if retrying.statistics.get("attempt_number", 1) > 1:
        logger.warning("storage works again, after %.0f s", time.monotonic() - begun)
    return result


def _sleep(seconds: float, given_up: threading.Event) -> None:
    given_up.wait(seconds)
