"""Stores of the three kinds: this process's memory, local files, and S3 (moto on a loopback port)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from edc_ray.artifacts.store import Store, open_store

SECRET = "a-secret-that-no-message-shows"


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


@pytest.fixture(params=["memory", "file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return open_store(f"memory://{uuid.uuid4().hex}/run")
    return open_store(str(tmp_path / "run") if request.param == "file" else request.getfixturevalue("s3_url"))


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"))
