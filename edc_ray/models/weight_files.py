"""Files of weights from anywhere: fetched once per node, trusted only by hash, read only as data."""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fsspec
import torch
from filelock import FileLock
from fsspec.utils import get_protocol
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from edc_ray.errors import ArtifactError, ConfigError

_MAX_BYTES = 8 * 2**30
_CHUNK = 2**24
# Where programs keep the state dict; what torch.compile and (Distributed)DataParallel put before its names.
_NESTED = ("state_dict", "model_state_dict", "model", "net", "network", "state_dict_ema", "model_ema", "ema")
_PREFIXES = ("_orig_mod.", "module.")


def fetch_weights(url: str, digest: str, kept_as: Path) -> bytes:
    """The content of a local file, or of any URL that fsspec reaches, whose copy `kept_as` is fetched once.

    The digest is a SHA-256 in hexadecimal digits, or at least its first eight (torchvision gives eight). A
    copy with another hash is fetched again.

    Raises:
        ArtifactError: it cannot be read, or has another hash.
    """
    if _is_local(url):
        return _verified(url, digest)
    kept_as.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{kept_as}.lock"):  # one process of this node fetches, the others wait
        if kept_as.exists() and hashlib.sha256(data := kept_as.read_bytes()).hexdigest().startswith(digest):
            return data
        data = _verified(url, digest)
        temporary = kept_as.with_name(f".{kept_as.name}.tmp")
        temporary.write_bytes(data)
        os.replace(temporary, kept_as)
        return data


def check_local_weights(url: str, digest: str) -> None:
    """Refuse a local file that cannot be fetched or read, before any work. URLs are not checked."""
    if _is_local(url):
        read_state(_verified(url, digest), source=url)


def read_state(data: bytes, *, source: str) -> dict[str, Tensor]:
    """The tensors in a file of weights: safetensors, or what torch saved. Nothing else in it is built.

    A wrapper such as {"state_dict": ...} is removed, and so are the prefixes of torch.compile and
    (Distributed)DataParallel. Errors call the data `source`.

    Raises:
        ArtifactError: it is damaged, or holds more than tensors, or a number in it is not finite.
    """
    is_safetensors = data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data)
    try:
        state: Any = load_safetensors(data) if is_safetensors else _read_torch(data)
    except Exception as error:  # of many kinds, for damage as for a pickle that wants to run code
        raise ArtifactError(
            f"{source} is damaged, or holds more than weights",
            found=re.split(r"[.\n]", str(error))[0] or type(error).__name__,
            expected="a safetensors file, or a state dict saved by torch",
            next="save the state dict of the network only",
        ) from error
    for name in _NESTED:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
            break
    if not isinstance(state, Mapping) or not all(isinstance(one, Tensor) for one in state.values()):
        raise ArtifactError(
            f"{source} holds no state dict",
            found=f"names {_some(state)}" if isinstance(state, Mapping) else type(state).__name__,
            expected=f"name -> tensor, as it is or under one of {', '.join(_NESTED)}",
            next="save the state dict of the network: torch.save(network.state_dict(), FILE)",
        )
    _refuse_not_finite(state, source)
    return _without_prefixes(state)


def _refuse_not_finite(state: Mapping[str, Tensor], source: str) -> None:
    # As doubles, because some formats of 8 bits cannot be asked.
    floats = {name: value for name, value in state.items() if value.is_floating_point()}
    wrong = {name: int((~value.double().isfinite()).sum()) for name, value in floats.items()}
    wrong = {name: count for name, count in wrong.items() if count}
    if wrong:
        name, count = next(iter(wrong.items()))
        raise ArtifactError(
            f"{source} holds weights that are NaN or infinite",
            found=f"{count} of {state[name].numel()} in '{name}'; names with such weights: {len(wrong)}",
            expected="finite numbers",
            next="take a checkpoint from before its training failed",
        )


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = list(state)
    while prefix := next((one for one in _PREFIXES if names and all(n.startswith(one) for n in names)), None):
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, state.values(), strict=True))


def _some(names: Iterable[object]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")


def load_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """`network.load_state_dict`, for a state dict that was stored as tensors alone.

    It lacks the versions of modules, which MNASNet asks for. The network's own are used.
    """
    versioned: Any = OrderedDict(state)
    versioned._metadata = getattr(network.state_dict(), "_metadata", None)
    network.load_state_dict(versioned)


def _is_local(url: str) -> bool:
    return get_protocol(url) in ("file", "local")


def _read_torch(data: bytes) -> Any:
    """What torch saved, unless members of its archive grow when they are read: torch compresses nothing."""
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > len(data):
            raise ValueError("its members claim more bytes than the file has")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


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


def _verified(url: str, digest: str) -> bytes:
    data = _read(url)
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
