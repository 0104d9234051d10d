"""A real S3 server (Ceph). Tests find it and never start it: `make s3-server` does, and so does `.ci/run`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs

from edc_ray.artifacts.storage.store import Store, open_store

SCRIPT = Path(__file__).with_name("ceph.sh")
BUCKET = "edc-ray"


@pytest.fixture(scope="session")
def ceph() -> dict[str, str]:
    """The environment of a client of the running server."""
    told = subprocess.run([str(SCRIPT), "env"], capture_output=True, text=True, check=True).stdout
    environment = dict(re.findall(r"^export (\w+)=(.*)$", told, re.MULTILINE))
    endpoint = environment["AWS_ENDPOINT_URL"]
    host, port = endpoint.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        pytest.skip(f"a real S3 server: none at {endpoint}; `make s3-server` starts one")
    return environment


def _reconnect(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def ceph_url(ceph: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh folder of the bucket, reached as a user's would be: through the environment."""
    folder = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    _reconnect(ceph, monkeypatch)
    yield f"{folder}/run"
    _reconnect(ceph, monkeypatch)  # a test may have used other credentials
    store = open_store(folder, writable=False)
    for path in [*store.list(), *store.leftovers()]:  # objects lie in the server's memory
        store.delete(path)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def store(ceph_url: str) -> Store:
    return open_store(ceph_url, writable=False)


class Gateway:
    """A proxy to the same server, which a test may cut off. The server stays reachable."""

    def __init__(self, conf: Path, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._conf, self._folder = conf, folder
        self.start()

    def start(self) -> None:
        frontend = f"--rgw-frontends=beast endpoint=127.0.0.1:{self.port} tcp_nodelay=1"
        files = [f"--{name}={self._folder / 'gateway'}.{name[:3]}" for name in ("pid-file", "log-file")]
        command = ["radosgw", "-c", str(self._conf), "-n", "client.rgw", "--no-mon-config", "-f"]
        self.process = subprocess.Popen(
            [*command, frontend, *files, "--admin-socket="],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < until, "the gateway did not start"
                assert self.process.poll() is None, "the gateway ended at once"
                time.sleep(0.02)

    @property
    def options(self) -> dict[str, Any]:
        """Storage options that use this proxy, and give up early when it is cut off."""
        return {
            "endpoint_url": f"http://127.0.0.1:{self.port}",
            "config_kwargs": {"retries": {"max_attempts": 0}},
        }

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def gateway(ceph_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    conf = Path(os.environ.get("EDC_RAY_S3_FOLDER", f"/tmp/edc-ray-s3-{os.getuid()}"), "ceph.conf")
    if not os.access(conf, os.R_OK):
        pytest.skip(f"a second gateway to the S3 server: {conf} cannot be read")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    gateway = Gateway(conf, tmp_path)
    yield gateway
    gateway.kill()
