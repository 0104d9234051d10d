"""SIGTERM and a second driver on one folder, with real processes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edc_ray.config.run import RunConfig
from tests.e2e.calm_runs import TEN_UNITS, finished_again, start

SLOW = {**TEN_UNITS, "recover.iterations": 400}


@pytest.fixture
def folder(calm_run: Path, tmp_path: Path) -> Path:
    """With all that recover needs."""
    for name in ("squeeze", "statistics", "init"):
        shutil.copytree(calm_run / name, tmp_path / "digits" / name)
    return tmp_path


def when_it_recovers(process: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + 200
    while not list((folder / "digits" / "condensed" / "records").glob("*.json")):
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < until, (folder / "log").read_text()
        time.sleep(0.02)


@pytest.mark.parametrize("address", ["none", pytest.param("local", marks=pytest.mark.xdist_group("ray"))])
def test_a_terminated_run_says_what_it_keeps_and_the_next_goes_on(
    address: str, tiny_config: Callable[..., RunConfig], folder: Path
) -> None:
    config = tiny_config(folder, **SLOW, **{"cluster.address": address, "cluster.cpus_per_actor": 0.5})
    process = start(config, folder)
    when_it_recovers(process, folder)
    process.terminate()  # not Ctrl-C, which a process that a shell started in the background ignores
    assert process.wait(60) == 128 + signal.SIGTERM
    log = (folder / "log").read_text()
    done = len(list((folder / "digits" / "condensed" / "records").glob("*.json")))
    assert "interrupted: recover has " in log
    assert "of 10 units; they are kept, and the same command goes on" in log
    assert "Traceback" not in log
    assert "received at time" not in log  # the trace of Ray's own handler
    if address == "none":  # a worker may have stored a unit of which the driver has not heard
        assert '"unit_done","stage":"recover"' in (folder / "digits" / "events.jsonl").read_text()
    assert not (folder / "digits" / "lease.json").exists()
    assert finished_again(tiny_config(folder, **SLOW), folder) == {"done": 10 - done, "reused": done}


def test_a_second_driver_is_refused_or_waits_and_one_after_a_kill_goes_on_at_once(
    tiny_config: Callable[..., RunConfig], folder: Path
) -> None:
    config = tiny_config(folder, **SLOW)
    first = start(config, folder)
    when_it_recovers(first, folder)
    first.send_signal(signal.SIGSTOP)  # alive, and not faster than the others
    for name in ("second", "third"):
        (folder / name).mkdir()
    second = start(config, folder / "second")
    assert second.wait(60) == 2
    told = (folder / "second" / "log").read_text()
    assert "another edc-ray works in" in told
    assert f"process {first.pid} on " in told
    third = start(tiny_config(folder, **SLOW, **{"run.when_busy": "wait"}), folder / "third")
    until = time.monotonic() + 60
    while "waiting for another edc-ray" not in (folder / "third" / "log").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    first.kill()
    first.wait()
    begun = time.monotonic()
    assert third.wait(120) == 0
    assert time.monotonic() - begun < 50  # a lease elsewhere would lapse after a minute
    assert "recover    10 units, " in (folder / "third" / "log").read_text()
