from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edc_ray.cluster import session
from edc_ray.cluster.session import checked_address, ray_session
from edc_ray.errors import ConfigError, ResourceError


def test_a_client_address_is_refused_in_favour_of_job_submission() -> None:
    with pytest.raises(ConfigError, match="ray job submit"):
        checked_address("ray://head:10001")


@pytest.mark.parametrize("address", ["none", "clusterhost", "http://head:8265", "", "head:"])
def test_an_address_that_ray_could_not_join_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="not understood"):
        checked_address(address)


@pytest.mark.parametrize("address", ["local", "auto", "10.0.0.7:6379", "head.example.org:6379", "[::1]:6379"])
def test_addresses_of_clusters_are_accepted(address: str) -> None:
    assert checked_address(address) == address


def test_a_session_that_is_open_is_used_and_left_open(ray_of_tests: None) -> None:
    import ray

    with ray_session("local"):
        assert ray.is_initialized()
    assert ray.is_initialized()


@pytest.fixture
def init(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Calls of ray.init, each with its token, which raise what `raised` holds."""
    import ray

    calls: list[dict[str, Any]] = []

    def called(address: str, **options: Any) -> None:
        calls.append({"address": address, "token": os.environ.get("RAY_AUTH_TOKEN"), **options})
        if raised:
            raise raised.pop(0)

    raised: list[Exception] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", called)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(session, "_SECONDS_BETWEEN_STARTS", 0)
    calls.append({"raised": raised})
    return calls


def _enter(address: str) -> None:
    with ray_session(address):
        pass


def test_joining_where_no_cluster_runs_says_so_and_names_the_token(init: list[dict[str, Any]]) -> None:
    init[0]["raised"].append(ConnectionError("Could not find any running Ray instance."))
    with pytest.raises(ResourceError, match=r"no Ray cluster to join[\s\S]*auth_token[\s\S]*ray job submit"):
        _enter("auto")


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:1"])
def test_an_address_where_nothing_listens_is_told_at_once(
    init: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ResourceError, match=r"no Ray cluster to join[\s\S]*ConnectionRefusedError"):
        _enter(address)
    assert len(init) == 1, "ray.init was called"


def test_an_embedded_ray_has_a_token_of_its_own_and_leaves_none(
    init: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    _enter("local")
    _enter("local")
    tokens = [call["token"] for call in init[1:]]
    assert tokens[0] == tokens[1]  # Ray keeps the first that a process has
    assert len(tokens[0]) == 64
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_a_token_of_the_user_is_used(
    init: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("mine")
    _enter("local")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    _enter("local")
    assert [call["token"] for call in init[1:]] == [None, "given"]
    assert os.environ["RAY_AUTH_TOKEN"] == "given"


def test_a_busy_machine_is_given_time(init: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    slow = Exception("The current node timed out during startup. This could happen because ...")
    init[0]["raised"] += [slow, RuntimeError("Failed to start GCS.")]
    _enter("local")
    assert len(init) == 4
    assert caplog.text.count("trying again") == 2
    init[0]["raised"] += [slow] * 4
    with pytest.raises(
        ResourceError, match=r"does not start[\s\S]*attempt 4 of 4[\s\S]*cluster\.address=none"
    ):
        _enter("local")


def test_what_time_does_not_mend_is_told_at_once(init: list[dict[str, Any]]) -> None:
    init[0]["raised"].append(OSError("no space left on device"))
    with pytest.raises(ResourceError, match=r"no space left on device[\s\S]*attempt 1[\s\S]*TMPDIR"):
        _enter("local")


def test_a_long_folder_for_temporary_files_is_replaced(
    init: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "long" * 20)
    _enter("local")
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/short")
    _enter("local")
    assert [call.get("_temp_dir") for call in init[1:]] == ["/tmp/ray", None]


def test_an_exception_of_ray_within_the_block_is_an_error_with_a_way_out(init: list[dict[str, Any]]) -> None:
    from ray.exceptions import RayTaskError, RpcError

    with (
        pytest.raises(ResourceError, match=r"Ray failed[\s\S]*RpcError: gone[\s\S]*cluster\.address=none"),
        ray_session("local"),
    ):
        raise RpcError("gone")
    of_a_unit = RayTaskError("unit", "Traceback", ConfigError("a unit's own")).as_instanceof_cause()
    with pytest.raises(ConfigError), ray_session("local"):
        raise of_a_unit


def test_a_relative_folder_for_rays_files_becomes_absolute(
    init: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/tmp")
    monkeypatch.setenv("RAY_TMPDIR", "relative")
    _enter("local")
    assert init[1]["_temp_dir"] == "/tmp/relative/ray"
