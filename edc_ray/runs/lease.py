"""Who works in a run's folder: a lease that its driver renews while it lives, and that lapses when it dies.

A lease only spares work. That a unit is stored once is guaranteed by its record, whoever holds the lease.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from pydantic import TypeAdapter

from edc_ray.artifacts.storage.layout import LEASE
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.cluster import WhenBusy
from edc_ray.errors import ArtifactError, ResourceError

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_RENEWALS = 15.0
_SECONDS_UNTIL_LAPSED = 60.0
_SECONDS_BETWEEN_LOOKS = 2.0
_MAX_BYTES = 10_000


@dataclass(frozen=True)
class Holder:
    """A driver at work.

    Args:
        host: its name.
        machine: the boot of its host and the space of its process numbers; empty if the system does not say.
        pid: number of its process.
        begun: when that process began, by the system's clock; a later process may have its number.
        since: when it took the lease, UTC.
        key: of this lease.
        renewals: how often it was renewed.
    """

    host: str
    machine: str
    pid: int
    begun: str
    since: str
    key: str
    renewals: int = 0

    @classmethod
    def this(cls) -> Holder:
        since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        pid = os.getpid()
        return cls(socket.gethostname(), _machine(), pid, _begun(pid), since, uuid.uuid4().hex)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    @property
    def is_here(self) -> bool:
        """Whether its process number means the same here."""
        return bool(self.machine) and (self.host, self.machine) == (socket.gethostname(), _machine())

    @property
    def is_alive(self) -> bool:
        """Whether its process lives, if it `is_here`."""
        return _begun(self.pid) == self.begun != ""


_HOLDER = TypeAdapter(Holder)


@contextmanager
def lease(store: Store, when_busy: WhenBusy, tell: Callable[[str], None]) -> Iterator[None]:
    """Within the block, other drivers know that this process works in the store's folder.

    Args:
        store: of a run.
        when_busy: what to do while another driver works there: `refuse`, `wait` for its end, or `share`,
            which works too, without the lease.
        tell: gets a line if this waits.

    Raises:
        ResourceError: another driver works there, and `refuse`.
    """
    own = Holder.this()
    if not _taken(store, own, when_busy, tell):
        yield
        return
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(store, own, ended), name="lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        store = replace(store, patience=0.0)  # a lease that is left behind lapses
        with suppress(ArtifactError):
            if (last := _holder(store)) is not None and last.key == own.key:
                store.delete(LEASE)


def _taken(store: Store, own: Holder, when_busy: WhenBusy, tell: Callable[[str], None]) -> bool:
    """Whether the lease is ours now; False if it stays another's and `when_busy` is `share`."""
    seen, looked, told = None, time.monotonic(), ""
    while True:
        held = _holder(store)
        is_free = held is None or (held.is_here and (held.pid == own.pid or not held.is_alive))
        if is_free and store.publish(LEASE, _text(own), replace=store.exists(LEASE)):
            return True
        if held is None:
            continue  # another driver was faster
        if held != seen:
            is_alive = held.is_here or seen is not None  # elsewhere, only a renewal proves it
            seen, looked = held, time.monotonic()
            if is_alive and when_busy == "refuse":
                raise _busy(store, held)
            if is_alive and when_busy == "share":
                return False
            told = _tell_once(tell, told, held, is_alive=is_alive)
        elif time.monotonic() - looked > _SECONDS_UNTIL_LAPSED and not held.is_here:
            store.publish(LEASE, _text(own), replace=True)
            return True
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _tell_once(tell: Callable[[str], None], told: str, held: Holder, *, is_alive: bool) -> str:
    """Tell that this waits, once for each holder and reason."""
    key = f"{held.key} {is_alive}"
    if key != told and is_alive:
        tell(f"waiting for another edc-ray that works here: {held}")
    elif key != told:
        tell(f"another edc-ray was at work here: {held}; looking for up to a minute whether it still is")
    return key


def _busy(store: Store, held: Holder) -> ResourceError:
    return ResourceError(
        f"another edc-ray works in {store.url}",
        found=str(held),
        expected="one at a time: two would do the same work",
        next=f"watch it with: edc-ray status {store.url}; run.when_busy=wait starts when it ends",
    )


def _renew(store: Store, own: Holder, ended: threading.Event) -> None:
    """Renew the lease until `ended`, or until another driver has it."""
    store = replace(store, patience=0.0)
    while not ended.wait(_SECONDS_BETWEEN_RENEWALS):
        own = replace(own, renewals=own.renewals + 1)
        with suppress(ArtifactError):  # storage that fails now may work the next time
            held = _holder(store)
            if held is not None and held.key != own.key:
                logger.warning("another edc-ray has taken over the folder: %s; both work there now", held)
                return
            store.publish(LEASE, _text(own), replace=True)


def _holder(store: Store) -> Holder | None:
    """Who holds the lease; None if nobody does."""
    data = store.read_if_there(LEASE, limit=_MAX_BYTES)
    if data is None:
        return None
    try:
        return _HOLDER.validate_json(data)
    except ValueError:  # no file of ours
        return None


def _text(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _machine() -> str:
    if sys.platform == "darwin":
        return sys.platform
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read(_MAX_BYTES).strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return ""


def _begun(pid: int) -> str:
    """When a process began; "" if there is none. macOS says only whether it lives."""
    if sys.platform == "darwin":
        with suppress(PermissionError):  # it lives, and is another user's
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return ""
        return "alive"
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            stat = file.read(_MAX_BYTES)
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name in brackets may hold anything
    return "" if fields[0] in "ZX" else fields[19]
