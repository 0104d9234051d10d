"""What must be true whenever writers die, and a loop that kills them at random times."""

from __future__ import annotations

import os
import random
import time

from edc_ray.artifacts.proof.garbage import find_garbage, remove_garbage
from edc_ray.artifacts.proof.manifest import manifest_is_intact, read_manifest, verify_run
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.run import STAGE_NAMES
from tests.e2e.unit_writer import FOLDER, UnitWriter, whole_files, write_stage


def seeded() -> random.Random:
    """Random times from EDC_RAY_FAULT_SEED, or from a seed that a failing test shows."""
    seed = os.environ.get("EDC_RAY_FAULT_SEED") or str(time.time_ns())
    print(f"EDC_RAY_FAULT_SEED={seed}")
    return random.Random(seed)


def check_that_all_is_whole(store: Store, whole: dict[str, bytes]) -> None:
    """Each file under its own name has its whole content, and the manifest only tells of what is there."""
    for path in store.list():
        data = store.read_if_there(path)
        assert data is None or data == whole[path], f"{path}: {len(data)} of {len(whole[path])} bytes"
    manifest = read_manifest(store, FOLDER)
    assert manifest is None or manifest_is_intact(store, manifest)
    assert verify_run(store) == []


def check_that_a_rerun_mends(store: Store, units: int) -> None:
    """The next writer completes the stage, and gc leaves what was to be written and nothing else."""
    write_stage(store, units)
    assert verify_run(store) == []
    whole = whole_files(units)
    remove_garbage(store, find_garbage(store, 0, STAGE_NAMES).garbage, 0)
    assert {path: store.read(path) for path in store.list()} == whole
    assert store.leftovers() == []
    assert not store.pending_uploads()


def empty(store: Store) -> None:
    for path in [*store.list(), *store.leftovers()]:
        store.delete(path)


def kill_writers(store: Store, writer: UnitWriter, *, kills: int, units: int, longest: float) -> None:
    """Kill writers of a stage after random times; check while they write, and after each death."""
    times, whole, killed = seeded(), whole_files(units), 0
    while killed < kills:
        writer.start(units=units, kill_after=times.uniform(0, longest))
        for path in store.list():
            data = store.read_if_there(path)
            assert data is None or data == whole[path]
        killed += writer.ended() == [-9]
        check_that_all_is_whole(store, whole)
        if read_manifest(store, FOLDER) is not None:
            check_that_a_rerun_mends(store, units)
            empty(store)
    check_that_a_rerun_mends(store, units)


def kill_at_every_step(store: Store, writer: UnitWriter, *, units: int) -> int:
    """Kill a writer at its first step, another at its second, and so on; the number of steps."""
    whole, step = whole_files(units), 0
    while True:
        step += 1
        writer.start(units=units, die_at=step)
        (status,) = writer.ended()
        if status == 0:
            return step - 1
        assert status == -9
        check_that_all_is_whole(store, whole)
        check_that_a_rerun_mends(store, units)
        empty(store)


def race_writers(store: Store, writer: UnitWriter, *, rounds: int, kill: bool, longest: float) -> None:
    """Two writers fill the same units with different bytes; one of them may be killed on the way.

    They may agree, or one may be told to run again because the other is just replacing a unit. What a killed
    one leaves may be damaged where both wrote, but never unnoticed.
    """
    times, tastes, damaged = seeded(), ["sweet", "sour"], 0
    for _ in range(rounds):
        order = {"kill_after": times.uniform(0, longest), "kill": 1} if kill else {}
        writer.start(units=2, tastes=tastes, **order)
        ended = writer.ended()
        assert set(ended) <= ({0, 2, -9} if kill else {0, 2})
        assert kill or 0 in ended
        # A writer that replaces a unit takes the manifest back first, and may be killed right then.
        if 0 not in ended or (kill and read_manifest(store, FOLDER) is None):
            write_stage(store, 2, tastes[0])
        manifest = read_manifest(store, FOLDER)
        assert manifest is not None
        if kill and not manifest_is_intact(store, manifest):
            # It died between replacing a shard and its record, after the other had read both for the
            # manifest. That does not look whole, and a rerun mends it.
            assert verify_run(store) != []
            damaged += 1
            write_stage(store, 2, tastes[0])
            manifest = read_manifest(store, FOLDER)
            assert manifest is not None
        assert manifest_is_intact(store, manifest)
        assert verify_run(store) == []
        empty(store)
    assert damaged <= 1 + rounds // 100
