"""The job scripts on a real Ray head with its dashboard, to which jobs are submitted."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edc_ray.artifacts.storage.layout import MANIFEST_NAME, stage_folder
from edc_ray.config.load import load_recipe, to_yaml
from edc_ray.config.run import STAGE_NAMES
from edc_ray.launch import launch
from tests.e2e.command_line import CommandLine
from tests.e2e.stored import stored_hashes

pytestmark = pytest.mark.xdist_group("job")

REPOSITORY = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
TOKEN = "5" * 64
SMALL = (
    "ipc=1", "dataset.max_per_class=20", "dataset.allow_weak_observers=true", "squeeze.epochs=1",
    "squeeze.observers=[convnet_w32]", "statistics.batches_per_unit=2", "init.images_per_class=10",
    "recover.iterations=3", "recover.classes_per_unit=5", "relabel.epochs=4", "relabel.mix_group=10",
    "relabel.epochs_per_unit=2", "evaluate.rows=[condensed]", "evaluate.seeds=2", "evaluate.full=skip",
    "tracking.tensorboard=false", "cluster.num_actors=2", "device=cpu",
)  # fmt: skip


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return inherited | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"}


def processes_of_session(leader: int) -> list[int]:
    """Processes that a command started in a separate session, and what those started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == leader:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


def end_ray(head: subprocess.Popen[bytes]) -> None:
    """End the head and what it started, but no other Ray of this machine, as `ray stop` would."""
    while left := processes_of_session(head.pid):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        head.poll()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """Address of a head that lives as long as the tests of this file."""
    port, dashboard_port, client_port, agent_port = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = [
            RAY, "start", "--head", "--block", f"--port={port}", f"--temp-dir={folder}", "--num-cpus=4",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}", "--disable-usage-stats",
            f"--ray-client-server-port={client_port}", f"--dashboard-agent-listen-port={agent_port}",
            "--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=200000000",
        ]  # fmt: skip
        with open(f"{folder}/head.log", "wb") as log:
            head = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment(), start_new_session=True
            )
        try:
            wait_until_listening(dashboard_port, head, Path(folder, "head.log"))
            yield f"http://127.0.0.1:{dashboard_port}"
        finally:
            end_ray(head)


def wait_until_listening(port: int, head: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if head.poll() is not None:
            pytest.fail(f"ray start ended with {head.returncode}:\n{log.read_text()}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the head did not listen within two minutes:\n{log.read_text()}")


def submit(dashboard: str, *words: str) -> subprocess.CompletedProcess[str]:
    job = [sys.executable, *words]
    command = [RAY, "job", "submit", f"--address={dashboard}", "--working-dir=.", "--", *job]
    for _ in range(20):
        ended = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        # The dashboard answers before the agent that starts jobs does, long before it on a busy machine.
        if "No available agent" not in ended.stderr:
            break
        time.sleep(5)
    return ended


def summary_in(logs: str) -> dict[str, Any]:
    lines = [line for line in logs.splitlines() if re.match(r'\{.*"stages"', line)]
    return json.loads(lines[-1])


@pytest.mark.timeout(900)
def test_a_job_makes_the_bytes_of_a_run_without_ray_and_submitted_again_reuses_all(
    dashboard: str, tmp_path: Path
) -> None:
    words = ("jobs/run_pipeline.py", "digits", "--json", f"storage.root={tmp_path}", *SMALL)
    first = submit(dashboard, *words)
    assert first.returncode == 0, first.stdout + first.stderr
    run = tmp_path / "digits"
    manifests = {stage: run / stage_folder(stage) / MANIFEST_NAME for stage in STAGE_NAMES}
    assert all(manifest.exists() for manifest in manifests.values())
    made = summary_in(first.stdout)
    assert made["stages"].keys() == set(STAGE_NAMES)
    assert all(stage["units_done"] > 0 for stage in made["stages"].values())
    before = {stage: manifest.read_bytes() for stage, manifest in manifests.items()}
    alone = tmp_path / "without_ray"
    words_alone = (*SMALL, f"storage.root={alone}", "cluster.address=none")
    launch(load_recipe("digits", words_alone), STAGE_NAMES)
    assert stored_hashes(run) == stored_hashes(alone / "digits")

    second = submit(dashboard, *words)
    assert second.returncode == 0, second.stdout + second.stderr
    reused = summary_in(second.stdout)
    assert all(stage["units_done"] == 0 for stage in reused["stages"].values())
    assert reused["rows"] == made["rows"]
    assert {stage: manifest.read_bytes() for stage, manifest in manifests.items()} == before


@pytest.mark.parametrize("script", ["run_pipeline.py", "run_stage.py", "run_sweep.py"])
def test_a_job_without_a_storage_root_is_refused(script: str) -> None:
    done = subprocess.run(
        [sys.executable, f"jobs/{script}", "digits"],
        cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "a job needs storage.root" in done.stderr


@pytest.fixture
def words_of_job(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """`words_of_job("digits")`: what a job script makes of its words."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "jobs"))
    job_words = importlib.import_module("job_words")

    def words_of(*words: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["run_pipeline.py", *words])
        return job_words.as_submitted_job("run")

    return words_of


@pytest.mark.parametrize("words", [("--config", "run.yaml"), ("--config=run.yaml",), ("storage.root=/runs",)])
def test_a_job_with_a_config_file_or_a_storage_root_joins_its_cluster(
    words_of_job: Callable[..., list[str]], words: tuple[str, ...]
) -> None:
    assert words_of_job(*words) == ["edc-ray", "run", *words, "cluster.address=auto"]
    own = (*words, "cluster.address=none")
    assert words_of_job(*own) == ["edc-ray", "run", *own]


@pytest.mark.parametrize("has_root", [True, False])
def test_the_storage_root_of_a_job_may_stand_in_its_config_file(
    words_of_job: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, has_root: bool,
) -> None:  # fmt: skip
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    root = [f"storage.root={tmp_path}"] if has_root else []
    # Only a job without the first problem meets the second. No images are needed to tell them apart.
    config = load_recipe("digits", ["dataset.train=/no/such/images", "cluster.address=none", *root])
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    words = words_of_job(f"--config={tmp_path}/run.yaml", "cluster.address=none")
    ended = CommandLine(monkeypatch, capsys)(*words[1:])
    assert ended.status == 2
    refusal = "a job needs storage.root"
    assert (refusal in ended.err) != has_root
    assert ("nothing at /no/such/images" in ended.err) == has_root
