"""Starting Ray, or joining the cluster in which this process runs."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from edc_ray.cluster.work_queue import brief
from edc_ray.errors import ConfigError, EdcRayError, ResourceError
from edc_ray.runs.interrupts import keeping_terminations
from edc_ray.runs.placement import in_ray_job

logger = logging.getLogger(__name__)

_HOST_AND_PORT = re.compile(r"[A-Za-z0-9._-]+:\d+|\[[0-9A-Fa-f:.]+\]:\d+")
_TOKEN = "RAY_AUTH_TOKEN"
_STARTS = 4
_SECONDS_BETWEEN_STARTS = 5.0
_SECONDS_TO_REACH = 15.0
# The longest path of a Unix socket is 107 bytes, and Ray appends about 70 to its folder.
_LONGEST_FOLDER = 37
_WITHOUT_RAY = "cluster.address=none runs without Ray"


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """A connection to Ray within the block. One that is open already is used and left open.

    An embedded Ray leaves nothing in the home folder: it gets a token of its own, which only its processes
    know, unless the user has one.

    Args:
        address: local (an embedded Ray), auto (the cluster in which this process runs), or HOST:PORT of a
            cluster to which this machine belongs. None: auto in a Ray job, else local.

    Raises:
        ConfigError: an address that cannot be used.
        ResourceError: no cluster to join, Ray does not start here, or it fails within the block.
    """
    address = checked_address(address or ("auto" if in_ray_job() else "local"))
    if ray.is_initialized():
        with failures_told():
            yield
        return
    with ExitStack() as ended:
        # Lines from workers would break the progress display. Ray keeps them in its logs.
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        with keeping_terminations():
            if address == "local":
                ended.enter_context(_environment(_token()))
                _start(options | {"include_dashboard": False} | _short_folder())
            else:
                _join(address, options)
        ended.callback(ray.shutdown)
        with failures_told():
            yield


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


@contextmanager
def failures_told() -> Iterator[None]:
    """Every exception of Ray in the block as an error of ours; a unit's own error is one of Ray's, too."""
    try:
        yield
    except RayError as error:
        if isinstance(error, EdcRayError):
            raise
        raise ResourceError(
            "Ray failed in the middle of the work",
            found=brief(error),
            expected="a Ray cluster that lives as long as the run",
            next=f"run the same command again: it does the remaining units; {_WITHOUT_RAY}",
        ) from error


def _start(options: Mapping[str, Any]) -> None:
    """Start an embedded Ray. A busy machine may need more time than Ray waits, so it is tried again."""
    for attempt in range(1, _STARTS + 1):
        try:  # "local": without an address, init would join a cluster that Ray remembers on this machine
            ray.init("local", **options)
            return
        except Exception as error:  # Ray raises plain exceptions of many kinds here
            ray.shutdown()
            reason = brief(error)
            if attempt == _STARTS or not _is_about_time(reason):
                raise ResourceError(
                    "Ray does not start on this machine",
                    found=f"{reason} (attempt {attempt} of {_STARTS})",
                    expected="room for Ray's processes, and a folder for its files (TMPDIR)",
                    next=f"try again when the machine is less busy; {_WITHOUT_RAY}",
                ) from error
            logger.warning("Ray did not start in time (%s); trying again", reason)
            time.sleep(_SECONDS_BETWEEN_STARTS)


def _join(address: str, options: Mapping[str, Any]) -> None:
    try:
        _reach(os.environ.get("RAY_ADDRESS", "") if address == "auto" else address)
        ray.init(address, **options)
    except Exception as error:  # a missing token shows as ConnectionError or AuthenticationError
        raise ResourceError(
            "there is no Ray cluster to join, or it asks for a token that this process lacks",
            found=brief(error),
            expected=f"a running cluster at cluster.address={address}; if it uses tokens, "
            f"RAY_AUTH_MODE=token and its token in {_TOKEN} or ~/.ray/auth_token",
            next="submit with `ray job submit`, or set cluster.address=local",
        ) from error


def _reach(place: str) -> None:
    """Raise an OSError where nothing listens at HOST:PORT. Ray would try for minutes."""
    if _HOST_AND_PORT.fullmatch(place):
        host, _, port = place.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_REACH).close()


def _is_about_time(reason: str) -> bool:
    return any(word in reason.lower() for word in ("timed out", "timeout", "failed to start gcs", "in time"))


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables within the block."""
    before = {name: os.environ.get(name) for name in (*values, "RAY_AUTH_MODE")}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _token() -> dict[str, str]:
    """A token if the user has none: Ray would write one to the home folder, which may not be writable."""
    given = os.environ.get(_TOKEN) or os.environ.get("RAY_AUTH_TOKEN_PATH")
    has_file = (Path(os.environ.get("HOME") or "/") / ".ray" / "auth_token").exists()
    return {} if given or has_file else {_TOKEN: _own_token()}


@cache
def _own_token() -> str:
    # One for each process: Ray keeps the first that it sees.
    return secrets.token_hex(32)


def _short_folder() -> dict[str, str]:
    """Another folder for Ray's files where the path of a socket in its own would be too long."""
    given = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    folder = os.path.abspath(given)
    if len(folder) <= _LONGEST_FOLDER or not os.access("/tmp", os.W_OK):
        # Ray's processes do not agree on where a relative folder is.
        return {} if given == folder else {"_temp_dir": os.path.join(folder, "ray")}
    logger.info("Ray keeps its files in /tmp/ray: in %s the names of its sockets would be too long", folder)
    return {"_temp_dir": "/tmp/ray"}
