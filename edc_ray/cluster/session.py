"""Starting Ray, or joining the cluster in which this process runs."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from edc_ray.errors import ConfigError, ResourceError

_HOST_AND_PORT = re.compile(r"[A-Za-z0-9._-]+:\d+|\[[0-9A-Fa-f:.]+\]:\d+")


@contextmanager
def ray_session(address: str) -> Iterator[None]:
    """A connection to Ray within the block. One that is open already is used and left open.

    Args:
        address: local (an embedded Ray), auto (the cluster in which this process runs), or HOST:PORT of a
            cluster to which this machine belongs.

    Raises:
        ConfigError: an address that cannot be used.
        ResourceError: no cluster to join.
    """
    checked_address(address)
    if ray.is_initialized():
        yield
        return
    # Lines from workers would break the progress display. Ray keeps them in its logs.
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options["include_dashboard"] = False
    try:  # without an address, init would join a cluster that Ray remembers on this machine
        ray.init(address, **options)
    except ConnectionError as error:
        if address == "local":
            raise
        raise ResourceError(
            "there is no Ray cluster to join",
            found=str(error).strip().splitlines()[0],
            expected=f"a running cluster at cluster.address={address}",
            next="submit with `ray job submit`, or set cluster.address=local",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def checked_address(address: str) -> str:
    """The address if `ray_session` can use it, else a ConfigError."""
    if address.startswith("ray://"):
        raise ConfigError(
            "cluster.address cannot be a ray:// client address",
            found=address,
            expected="local, auto, none or HOST:PORT",
            next="run inside the cluster: ray job submit --working-dir . -- python jobs/run_pipeline.py ...",
        )
    if address not in ("local", "auto") and not _HOST_AND_PORT.fullmatch(address):
        raise ConfigError(
            "cluster.address is not understood",
            found=repr(address),
            expected="local, auto, none or HOST:PORT",
        )
    return address


def alive_nodes() -> list[Mapping[str, float]]:
    """Resources ("CPU", "GPU") of each alive node of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
