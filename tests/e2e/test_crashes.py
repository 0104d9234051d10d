"""Writers die at every step and at random times, the disk fills up: what can be read is always whole."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edc_ray.artifacts.proof.manifest import verify_run
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.errors import ArtifactError
from tests.e2e.crashes import (
    check_that_a_rerun_mends,
    check_that_all_is_whole,
    empty,
    kill_at_every_step,
    kill_writers,
    race_writers,
)
from tests.e2e.unit_writer import UnitWriter, whole_files, write_stage


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"))


@pytest.fixture
def writer(store: Store) -> Iterator[UnitWriter]:
    writer = UnitWriter(store.url)
    yield writer
    writer.close()


def test_a_writer_killed_at_any_step_leaves_nothing_half(store: Store, writer: UnitWriter) -> None:
    assert kill_at_every_step(store, writer, units=1) > 40


@pytest.mark.parametrize("kills", [40, pytest.param(600, marks=pytest.mark.nightly)])
def test_writers_killed_at_random_times_leave_nothing_half(
    store: Store, writer: UnitWriter, kills: int
) -> None:
    kill_writers(store, writer, kills=kills, units=6, longest=0.08)


@pytest.mark.parametrize(
    ("rounds", "kill"),
    [(15, False), (15, True), pytest.param(300, True, marks=pytest.mark.nightly)],
)
def test_of_two_writers_of_different_bytes_one_wins(
    store: Store, writer: UnitWriter, rounds: int, kill: bool
) -> None:
    race_writers(store, writer, rounds=rounds, kill=kill, longest=0.03)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a full disk: there is no mount command here")
    if done.returncode:
        pytest.skip(f"a full disk: mounting a small one needs root ({done.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("free", [0, 4096, 30_000, 100_000, 150_000])
def test_a_full_disk_is_an_error_and_leaves_nothing_half(small_disk: Path, free: int) -> None:
    store, units = open_store(str(small_disk / "run")), 12
    whole = whole_files(units)
    space = os.statvfs(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (space.f_bavail * space.f_frsize - free))
    assert sum(map(len, whole.values())) > free
    with pytest.raises(ArtifactError, match="No space left on device"):
        write_stage(store, units)
    check_that_all_is_whole(store, whole)
    assert store.leftovers() == []
    ballast.unlink()
    check_that_a_rerun_mends(store, units)
    assert verify_run(store) == []
    empty(store)
