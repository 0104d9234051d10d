"""Files of weights: verified, fetched once, replaced when damaged, and never more than tensors."""

from __future__ import annotations

import hashlib
import io
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
import safetensors.torch
import torch
from torch import nn

from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.models import weight_files
from edc_ray.models.weight_files import check_local_weights, fetch_weights, load_state, read_state

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
DATA = safetensors.torch.save(STATE)
SHA = hashlib.sha256(DATA).hexdigest()


def _saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.fixture
def remote() -> str:
    """A URL where the weights lie."""
    url = f"memory://{uuid.uuid4().hex}/weights.safetensors"
    with fsspec.open(url, "wb") as file:
        file.write(DATA)  # type: ignore[union-attr]
    return url


def _remove(url: str) -> None:
    filesystem, path = fsspec.url_to_fs(url)
    filesystem.rm(path)


@pytest.mark.parametrize("digest", [SHA, SHA[:8]])
def test_a_remote_file_is_fetched_once(remote: str, tmp_path: Path, digest: str) -> None:
    kept_as = tmp_path / "deep" / "copy"
    assert fetch_weights(remote, digest, kept_as) == DATA
    _remove(remote)
    assert fetch_weights(remote, digest, kept_as) == DATA


def test_many_at_once_fetch_one_time(remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, reads = weight_files._read, []

    def read_slowly(url: str) -> bytes:
        reads.append(url)
        time.sleep(0.1)
        return read(url)

    monkeypatch.setattr(weight_files, "_read", read_slowly)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: fetch_weights(remote, SHA, tmp_path / "copy"), range(8)))
    assert got == [DATA] * 8
    assert reads == [remote]


def test_a_damaged_copy_is_fetched_again(remote: str, tmp_path: Path) -> None:
    kept_as = tmp_path / "copy"
    kept_as.write_bytes(DATA[:-1])
    assert fetch_weights(remote, SHA, kept_as) == DATA
    assert kept_as.read_bytes() == DATA
    kept_as.write_bytes(DATA[:-1])
    _remove(remote)
    with pytest.raises(ArtifactError, match="cannot be read"):
        fetch_weights(remote, SHA, kept_as)


def test_another_content_than_was_asked_for_is_refused_and_not_kept(remote: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"have another hash(.|\n)*{SHA}"):
        fetch_weights(remote, "0" * 64, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with pytest.raises(ConfigError, match="not a SHA-256"):
        fetch_weights(remote, "", tmp_path / "copy")


def test_a_local_file_is_verified_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(DATA)
    for url in (str(path), f"file://{path}"):
        assert fetch_weights(url, SHA, tmp_path / "copy") == DATA
    path.write_bytes(DATA[:-1])
    with pytest.raises(ArtifactError, match="another hash"):
        fetch_weights(str(path), SHA, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        _saved(STATE),
        _saved({"state_dict": STATE, "epoch": 3}),
        _saved({"model": {f"module.{key}": value for key, value in STATE.items()}}),
        _saved({f"_orig_mod.module.{key}": value for key, value in STATE.items()}),
        _saved({"net": {f"module._orig_mod.{key}": value for key, value in STATE.items()}, "acc": 0.9}),
        _saved({"model_state_dict": STATE, "optimizer": {"lr": 0.1}}),
        _saved({"state_dict": STATE, "state_dict_ema": {}}),
        _saved({"state_dict_ema": STATE, "args": [1]}),
    ],
)
def test_all_ways_to_store_a_state_are_read_alike(data: bytes) -> None:
    read = read_state(data, source="x")
    assert read.keys() == STATE.keys()
    assert all(torch.equal(read[key], STATE[key]) for key in STATE)


class Evil:
    """What a pickle can do: call anything while it is read."""

    called: list[int] = []  # noqa: RUF012

    def __reduce__(self) -> Any:
        return Evil.called.append, (1,)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_saved({"a": Evil()}), "holds more than weights"),
        (_saved(nn.Linear(2, 2)), "holds more than weights"),
        (_saved({"weights": STATE, "epoch": 3}), r"names weights, epoch(.|\n)*under one of state_dict"),
        (_saved([1]), "holds no state dict(.|\n)*list"),
        (_saved(STATE)[:-40], "damaged"),
        (DATA[:-1], "damaged"),
        (b"", "damaged"),
        (b"no weights at all", "damaged"),
    ],
)
def test_what_is_no_state_dict_is_refused_and_runs_nothing(data: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=f"run/x(.|\n)*{message}"):
        read_state(data, source="run/x")
    assert Evil.called == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_weights_that_are_not_finite_are_refused_before_work(tmp_path: Path, value: float, kind) -> None:
    bad = torch.tensor([1.0, value, 2.0]).to(kind)
    path = tmp_path / "nan.pth"
    path.write_bytes(_saved({"state_dict": {"good": torch.ones(1), "bad": bad, "count": torch.tensor(3)}}))
    with pytest.raises(ArtifactError, match=r"nan\.pth holds weights that are NaN(.|\n)*1 of 3 in 'bad'"):
        check_local_weights(str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def test_tensors_of_a_safetensors_file_are_those_that_were_stored() -> None:
    stored = STATE | {
        "half": torch.tensor([[0.1, -0.0], [65504.0, 1e-7]], dtype=torch.float16),
        "count": torch.tensor(2**40 + 1),
        "none": torch.empty(0, 3, dtype=torch.uint8),
    }
    found = read_state(safetensors.torch.save(stored), source="x")
    assert found.keys() == stored.keys()
    for name, tensor in stored.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", b"", _saved({"a": Evil()})], ids=len)
def test_what_is_no_whole_safetensors_file_is_refused_and_runs_nothing(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="damaged"):
        read_state(data, source="x")
    assert Evil.called == []


def test_a_network_that_asks_for_its_version_takes_tensors_alone() -> None:
    from torchvision import models

    network = models.mnasnet0_5(num_classes=2)
    state = {key: value + 1 for key, value in network.state_dict().items()}
    load_state(network, state)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
