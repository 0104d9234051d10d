"""A stage of small units, and a program that writes it and dies: `python -m tests.e2e.unit_writer URL`.

Every line of its stdin is an order, one JSON object; it forks, lets the child write, ends it as ordered, and
answers with a line. A fork of a warm process takes milliseconds, so that many deaths fit into a test.
"""

from __future__ import annotations

import builtins
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from edc_ray.artifacts.proof.manifest import read_record, write_manifest, write_unit
from edc_ray.artifacts.storage import store as store_module
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.errors import ArtifactError

FOLDER, PRINT = "condensed", "fingerprint-1"
STEPS = ("open", "fsync", "link", "replace", "unlink", "makedirs")


def contents(unit: int, taste: str = "") -> dict[str, tuple[bytes, int]]:
    """Two shards of a unit, some with several pages. Writers of another `taste` make other bytes."""
    drawn = random.Random(f"{unit} {taste}")
    return {
        f"u{unit}-{part}.npz": (drawn.randbytes(int(10 ** drawn.uniform(0, 5.3))), part) for part in (0, 1)
    }


def write_stage(store: Store, units: int, taste: str = "") -> None:
    """What a driver does: the config, the units that no record proves, the manifest."""
    for name in ("run.yaml", "data.json"):
        store.publish(name, b"{}", replace=True)
    records = []
    for unit in range(units):
        done = read_record(store, FOLDER, f"u{unit}", PRINT)
        records.append(
            done or write_unit(store, FOLDER, f"u{unit}", PRINT, contents(unit, taste), {"taste": taste})
        )
    dataset = {"name": "pets", "class_names": ["cat", "dog"]}
    write_manifest(store, FOLDER, records, fingerprint=PRINT, dataset=dataset)


def whole_files(units: int, taste: str = "") -> dict[str, bytes]:
    """Every file of the stage after an undisturbed run."""
    store = open_store(f"memory://{uuid.uuid4().hex}", writable=False)
    write_stage(store, units, taste)
    return {path: store.read(path) for path in store.list()}


class UnitWriter:
    """The program, started, as tests order it about."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "tests.e2e.unit_writer", url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def start(self, **order: Any) -> None:
        """Begin: `units`, `tastes` (one child for each), `kill_after` seconds or `die_at` a step."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def ended(self) -> list[int]:
        """Wait for the end: exit status of each child, -9 where it was killed."""
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        with self._process:
            pass  # closes both pipes and waits


def main() -> None:
    url = sys.argv[1]
    if url.startswith("s3://"):
        import s3fs  # noqa: F401  (before the first fork, for the children's sake)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        children = [_fork(url, order, taste) for taste in order.get("tastes", [""])]
        if "kill_after" in order:
            time.sleep(order["kill_after"])
            for child in children[: order.get("kill", len(children))]:
                os.kill(child, signal.SIGKILL)
        print(
            json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True
        )


def _fork(url: str, order: dict[str, Any], taste: str) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        if "die_at" in order:
            _die_at(order["die_at"], on_s3=url.startswith("s3://"))
        write_stage(Store(url), order["units"], taste)
        status = 0
    except ArtifactError as error:
        print(error, file=sys.stderr, flush=True)
        status = error.exit_status
    finally:
        os._exit(status)


def _die_at(last: int, *, on_s3: bool) -> None:
    """Count every step, before and after it and in the middle of a write; die at one of them."""
    taken = 0

    def step() -> None:
        nonlocal taken
        taken += 1
        if taken == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            step()
            found = real(*args, **options)
            step()
            return found

        return call

    def opened(*args: Any, **options: Any) -> Any:
        step()
        return _TornFile(builtins.open(*args, **options), step)

    if on_s3:
        import s3fs

        real = s3fs.S3FileSystem._call_s3

        async def call_s3(self: Any, *args: Any, **options: Any) -> Any:
            step()
            found = await real(self, *args, **options)
            step()
            return found

        s3fs.S3FileSystem._call_s3 = call_s3
        return
    store_module.open = opened  # type: ignore[attr-defined]
    for name in STEPS:
        setattr(os, name, stepped(getattr(os, name)))


class _TornFile:
    """A file whose writes reach the disk in two halves."""

    def __init__(self, file: Any, step: Callable[[], None]) -> None:
        self._file, self._step = file, step

    def write(self, data: bytes) -> None:
        half = len(data) // 2
        for part in (data[:half], data[half:]):
            self._file.write(part)
            self._file.flush()
            self._step()

    def __enter__(self) -> _TornFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


if __name__ == "__main__":
    main()
