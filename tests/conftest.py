"""What holds for every test: none may reach the network. And one finished run that tests may read."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from edc_ray.config.load import load_recipe, with_fields
from edc_ray.config.run import STAGE_NAMES, RunConfig

pytest_plugins = ["tests.finished_run"]

# Ray gives its workers a low priority, and a test then waits for whatever else the machine does.
os.environ.setdefault("RAY_worker_niceness", "0")

# A busy machine makes a test slow, but not wrong.
settings.register_profile("edc_ray", deadline=None, max_examples=50)
settings.load_profile("edc_ray")

SECRET = "a-secret-that-no-message-shows"
TINY_DIGITS: dict[str, Any] = {
    "ipc": 1,
    "device": "cpu",
    "dataset.max_per_class": 30,
    "dataset.max_val_per_class": 20,
    "dataset.allow_weak_observers": True,
    "squeeze.observers": ["convnet_d1"],
    "squeeze.epochs": 1,
    "init.images_per_class": 4,
    "recover.iterations": 3,
    "relabel.epochs": 2,
    "evaluate.students": ["convnet_d1"],
    "evaluate.seeds": 2,
    "cluster.address": "none",
}


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one Ray stay in one process of the suite; see `make test`."""
    for item in items:
        if "ray_of_tests" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ray"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch  # most folders of tests need none

        if not torch.cuda.is_available():
            pytest.skip("torch sees no CUDA device")


def _is_this_machine(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host in ("localhost", socket.gethostname())
    if not address.is_global:
        return True
    # Ray connects to the machine's own address, which may be a public one.
    with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Any:
    connect = socket.socket.connect

    def connect_here_only(self: socket.socket, address: Any) -> None:
        over_tcp = self.family in (socket.AF_INET, socket.AF_INET6) and self.type & socket.SOCK_STREAM
        if over_tcp and not _is_this_machine(address[0]):
            self.close()
            raise RuntimeError(f"a test tried to reach {address[0]}: tests do without the network")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_here_only)
        yield


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., RunConfig]:
    """`tiny_config(tmp_path, ipc=2, **{"recover.iterations": 5})`: the smallest digits, stored there."""

    def config(root: Path, **fields: Any) -> RunConfig:
        return with_fields(load_recipe("digits"), TINY_DIGITS | {"storage.root": str(root)} | fields)

    return config


@pytest.fixture(scope="session")
def tiny_run(tiny_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of `tiny_config`. The session shares it: copy it before changing anything."""
    from edc_ray.launch import launch

    root = tmp_path_factory.mktemp("tiny")
    launch(tiny_config(root), STAGE_NAMES)
    return root / "digits"


@pytest.fixture(scope="session")
def ray_of_tests() -> Iterator[None]:
    """One small Ray for all tests that need one in their own process."""
    import ray

    import edc_ray.cluster  # noqa: F401  (what must be set before ray is imported)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", "7" * 64)  # else Ray writes one into the home folder
        ray.init(
            "local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[tuple[str, str]]:
    """Endpoint and bucket of a server for the test session."""
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    # s3fs cannot make a bucket in us-east-1
    access = {"aws_access_key_id": "testing", "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=endpoint, **access)
    client.create_bucket(Bucket="bucket-of-tests")
    client.close()
    yield endpoint, "bucket-of-tests"
    server.stop()


@pytest.fixture
def s3_url(s3_bucket: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh folder of the bucket, reached as a user's would be: through the environment."""
    s3fs = pytest.importorskip("s3fs")
    endpoint, bucket = s3_bucket
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    yield f"s3://{bucket}/{uuid.uuid4().hex}/run"
    s3fs.S3FileSystem.clear_instance_cache()
