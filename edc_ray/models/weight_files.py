"""Files of weights from anywhere: fetched once per node, trusted only by hash, read only as data."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import uuid
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import torch
from safetensors.torch import load as parse_safetensors
from torch import Tensor, nn

from edc_ray.errors import ArtifactError, ConfigError

_MAX_BYTES = 8 * 2**30
_CHUNK = 2**24
_NESTED = ("state_dict", "model")


def fetch_weights(url: str, digest: str, kept_as: Path) -> bytes:
    """The content of a file of weights, from this node's copy if it has one.

    Args:
        url: a local path, or any URL that fsspec reaches.
        digest: SHA-256 in hexadecimal digits, or at least its first eight (torchvision gives eight).
        kept_as: the node's copy of a remote file. One process fetches it while the others wait. A copy with
            another hash is fetched again.

    Returns:
        Bytes that have the hash.

    Raises:
        ArtifactError: it cannot be read, or has another hash.
    """
    path = _local_path(url)
    if path is not None:
        return _verified(_read(path), digest, url)
    with _only_one(kept_as):
        if kept_as.exists() and hashlib.sha256(data := kept_as.read_bytes()).hexdigest().startswith(digest):
            return data
        data = _verified(_read(url), digest, url)
        _publish(kept_as, data)
        return data


def check_local_weights(url: str, digest: str) -> None:
    """Refuse a local file that is missing or has another hash, before any work. URLs are not checked.

    Raises:
        ArtifactError: it cannot be read, or has another hash.
    """
    path = _local_path(url)
    if path is not None:
        _verified(_read(path), digest, url)


def read_state(data: bytes, *, source: str) -> dict[str, Tensor]:
    """The tensors in a file of weights: safetensors, or what torch saved. Nothing else in it is built.

    Args:
        data: the whole file.
        source: its name in errors.

    Returns:
        The state dict, without a wrapper {"state_dict": ...} or {"model": ...} and without the prefix that
        (Distributed)DataParallel puts before every name.

    Raises:
        ArtifactError: it is damaged, or holds more than tensors.
    """
    state = _read_safetensors(data, source) if _is_safetensors(data) else _read_torch(data, source)
    for name in _NESTED:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
            break
    if not isinstance(state, Mapping) or not all(isinstance(one, Tensor) for one in state.values()):
        raise ArtifactError(
            f"{source} holds no state dict",
            found=type(state).__name__ if not isinstance(state, Mapping) else "values that are no tensors",
            expected="name -> tensor",
        )
    wrapped = all(key.startswith("module.") for key in state)
    return {key.removeprefix("module.") if wrapped else key: value for key, value in state.items()}


def load_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """`network.load_state_dict`, for a state dict that was stored as tensors alone.

    Such a state has lost the versions of its modules, which MNASNet asks for. The network's own are taken.

    Raises:
        RuntimeError: keys or shapes differ.
    """
    versioned: Any = OrderedDict(state)
    versioned._metadata = getattr(network.state_dict(), "_metadata", None)
    network.load_state_dict(versioned)


def _local_path(url: str) -> str | None:
    path = url.removeprefix("file://").removeprefix("local://")
    return None if "://" in path else path


def _is_safetensors(data: bytes) -> bool:
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data)


def tensors_of_safetensors(data: bytes) -> dict[str, Tensor]:
    """The tensors in a safetensors file, a format without pickle: a JSON header and raw numbers.

    Raises:
        Exception: of several kinds; the file is damaged.
    """
    return parse_safetensors(data)


def _read_safetensors(data: bytes, source: str) -> Any:
    try:
        return tensors_of_safetensors(data)
    except Exception as error:  # the library has exceptions of several kinds
        found = (str(error).splitlines() or [type(error).__name__])[0]
        raise ArtifactError(f"{source} is damaged", found=found) from error


def _read_torch(data: bytes, source: str) -> Any:
    try:
        _refuse_packed(data)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, for damage as for a pickle that wants to run code
        raise ArtifactError(
            f"{source} is damaged, or holds more than weights",
            found=re.split(r"[.\n]", str(error))[0] or type(error).__name__,
            expected="a safetensors file, or a state dict saved by torch",
            next="save the state dict of the network only",
        ) from error


def _refuse_packed(data: bytes) -> None:
    """Refuse an archive whose members grow when they are read: torch stores its tensors uncompressed."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or sum(member.file_size for member in members) > len(data):
        raise ValueError("its members claim more bytes than the file has")


def _read(url: str) -> bytes:
    content = io.BytesIO()
    try:
        with fsspec.open(url, "rb") as file:
            while content.tell() <= _MAX_BYTES and (chunk := file.read(_CHUNK)):  # type: ignore[union-attr]
                content.write(chunk)
    except Exception as error:
        # Every file system has its own exceptions, and their messages may hold signed addresses.
        raise ArtifactError(
            f"the weights at {url} cannot be read",
            found=type(error).__name__,
            next="check the address, and that every node may read it",
        ) from error
    if content.tell() > _MAX_BYTES:
        raise ArtifactError(f"the weights at {url} are too large", expected=f"at most {_MAX_BYTES} bytes")
    return content.getvalue()


def _verified(data: bytes, digest: str, url: str) -> bytes:
    if not re.fullmatch(r"[0-9a-f]{8,64}", digest):
        raise ConfigError(f"'{digest}' is not a SHA-256 (weights at {url})", expected="64 of 0-9 and a-f")
    found = hashlib.sha256(data).hexdigest()
    if not found.startswith(digest):
        raise ArtifactError(
            f"the weights at {url} have another hash",
            found=f"SHA-256 {found}",
            expected=f"SHA-256 {digest}",
            next="correct the hash if you trust the file that is there now",
        )
    return data


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Admit one process of this node at a time. The lock ends with the process that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f"{path.name}.lock"), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _publish(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
