from __future__ import annotations

import pytest

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


def test_joining_where_no_cluster_runs_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with (
        pytest.raises(ResourceError, match=r"no Ray cluster to join[\s\S]*ray job submit"),
        ray_session("auto"),
    ):
        pass
