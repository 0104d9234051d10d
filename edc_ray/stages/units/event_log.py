"""events.jsonl: what happened in a run, one JSON object a line, kept beside its artifacts."""

from __future__ import annotations

import json
import logging
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from edc_ray.artifacts.storage.layout import EVENT_LOG
from edc_ray.artifacts.storage.limits import MAX_LOG_BYTES
from edc_ray.artifacts.storage.store import Store
from edc_ray.errors import ArtifactError

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_WRITES = 5.0


class EventLog:
    """Collects events and stores them after those of earlier calls.

    An object store cannot append, so each write is of the whole file: at the end of each stage, and at most
    every few seconds. A crash loses the last seconds of the log and nothing else. A write that fails ends no
    run: a warning tells it, and the next write holds all events.
    """

    def __init__(self, store: Store) -> None:
        self._store = replace(store, patience=0.0)  # the next write comes soon enough
        self._is_failing = False
        self._lines = _stored_lines(store)
        self._written = time.monotonic()
        self.events: list[dict[str, Any]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        stamped = {"time": round(time.time(), 3), **event}
        self.events.append(stamped)
        self._lines.append(json.dumps(stamped, separators=(",", ":")))
        due = time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES
        if due or not event["event"].startswith("unit_"):
            self.write()

    def write(self) -> None:
        """Store all events now, if that is possible."""
        self._written = time.monotonic()
        try:
            self._store.publish(EVENT_LOG, ("\n".join(self._lines) + "\n").encode(), replace=True)
        except ArtifactError as error:
            if not self._is_failing:
                logger.warning("the log of the run cannot be written: %s (%s)", error.summary, error.found)
            self._is_failing = True
        else:
            self._is_failing = False


def read_events(store: Store) -> list[dict[str, Any]]:
    """All events of a run, without damaged lines; an ArtifactError if the log cannot be read."""
    events = []
    for line in _stored_lines(store):
        with suppress(ValueError, RecursionError):
            events.append(json.loads(line))
    return [event for event in events if isinstance(event, dict)]


def _stored_lines(store: Store) -> list[str]:
    stored = store.read_if_there(EVENT_LOG, limit=MAX_LOG_BYTES) or b""
    # A run continues after a damaged log.
    return stored.decode(errors="replace").splitlines()
