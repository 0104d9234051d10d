"""Observers: frozen networks ("teachers" in other papers), and their form in storage, safetensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from edc_ray.errors import ArtifactError
from edc_ray.models.registry import build_network, check_network, family_of
from edc_ray.models.weight_files import load_state

SCHEMA_VERSION = 1
# One key only: safetensors writes several in any order, and the bytes must not vary.
_METADATA_KEY = "edc_ray.network"
_MAX_SIDE = 2**13
# What Python raises for damaged or hostile JSON.
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)


@dataclass(frozen=True)
class NetworkInfo:
    """Enough about a stored network to build it again, and to refuse it for another dataset."""

    name: str
    image_size: int
    channels: int
    class_names: tuple[str, ...]
    schema_version: int = SCHEMA_VERSION


def freeze(network: nn.Module) -> nn.Module:
    """The same network in evaluation mode, its parameters without gradient."""
    return network.eval().requires_grad_(False)


def network_to_bytes(
    network: nn.Module, *, name: str, image_size: int, channels: int, class_names: Sequence[str]
) -> bytes:
    """The weights and buffers of a network as safetensors, with what it was built from.

    The bytes depend on the arguments alone. The state dict is stored in its own precision.
    """
    info = NetworkInfo(name, image_size, channels, tuple(class_names))
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    metadata = json.dumps(asdict(info), sort_keys=True, separators=(",", ":"))
    return save_safetensors(tensors, {_METADATA_KEY: metadata})


def read_network_info(data: bytes, *, source: str = "network") -> NetworkInfo:
    """The description in the bytes of `network_to_bytes`, which errors call `source`.

    Raises:
        ArtifactError: the bytes are damaged, were not written by edc-ray, or need a newer edc-ray.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        fields = json.loads(header["__metadata__"][_METADATA_KEY])
        version = int(fields["schema_version"])
    except _DAMAGE as error:
        raise _not_ours(data, source) from error
    if version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{source}: stored by a newer edc-ray",
            found=f"schema version {version}",
            expected=f"at most {SCHEMA_VERSION}",
            next="upgrade edc-ray",
        )
    try:
        return _described(fields, version)
    except _DAMAGE as error:
        raise _not_ours(data, source) from error


def _described(fields: dict[str, Any], version: int) -> NetworkInfo:
    name, class_names = fields["name"], fields["class_names"]
    sizes = fields["image_size"], fields["channels"]
    sound = isinstance(name, str) and all(type(size) is int and 0 < size <= _MAX_SIDE for size in sizes)
    if not (sound and isinstance(class_names, list) and all(isinstance(one, str) for one in class_names)):
        raise ValueError("a field has another type or size")
    return NetworkInfo(name, *sizes, tuple(class_names), version)


def _not_ours(data: bytes, source: str) -> ArtifactError:
    return ArtifactError(
        f"{source}: not a network stored by edc-ray",
        found=f"{len(data)} bytes without a readable description",
        next="run edc-ray verify; edc-ray stage squeeze trains a damaged observer again",
    )


def network_from_bytes(
    data: bytes,
    *,
    name: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    class_names: Sequence[str] | None = None,
    source: str = "network",
) -> nn.Module:
    """A stored network, frozen, on the CPU.

    Args:
        data: the bytes of `network_to_bytes`.
        name: of the network that the caller needs. None accepts any, except a user's own: stored bytes never
            decide which code is imported.
        image_size, channels, class_names: that the caller needs; None accepts any.
        source: name of the bytes in errors, usually a URL.

    Raises:
        ArtifactError: the bytes are damaged or newer, or hold another network than the caller needs.
    """
    info = read_network_info(data, source=source)
    for field, wanted in {"name": name, "image_size": image_size, "channels": channels}.items():
        found = getattr(info, field)
        if wanted is not None and wanted != found:
            raise ArtifactError(
                f"{source}: {field} of the stored network differs", found=found, expected=wanted
            )
    if class_names is not None and tuple(class_names) != info.class_names:
        pairs = enumerate(zip(info.class_names, class_names, strict=False))
        index = next((index for index, (found, wanted) in pairs if found != wanted), None)
        raise ArtifactError(
            f"{source}: the network was trained on other classes or in another order",
            found=_class_shown(info.class_names, index),
            expected=_class_shown(class_names, index),
            next="train the observers on this dataset: edc-ray stage squeeze",
        )
    if name is None and family_of(info.name) == "own":
        raise ArtifactError(
            f"{source}: the stored network is a user's own",
            found=info.name,
            expected="its name from the caller",
        )
    try:
        state = load_safetensors(data)
        network = _built(info, len(data))
        load_state(network, state)
    except Exception as error:  # of several kinds, from safetensors and from torch
        raise ArtifactError(
            f"{source}: the weights are damaged or do not fit network '{info.name}'",
            found=(str(error).splitlines() or [type(error).__name__])[0],
            next="run edc-ray verify; edc-ray stage squeeze trains a damaged observer again",
        ) from error
    return freeze(network)


def _built(info: NetworkInfo, stored: int) -> nn.Module:
    """The described network. It is refused before it is built if it needs more bytes than were stored."""
    sizes = {
        "num_classes": len(info.class_names), "image_size": info.image_size, "channels": info.channels
    }  # fmt: skip
    state = check_network(info.name, **sizes).state_dict()
    needed = sum(one.numel() * one.element_size() for one in state.values())
    if needed > 2 * stored:  # stored numbers may have half the bytes
        raise ValueError(f"{stored} bytes of weights, but the network needs {needed}")
    return build_network(info.name, **sizes, seed=0)


def _class_shown(class_names: Sequence[str], index: int | None) -> str:
    return f"{len(class_names)} classes" if index is None else f"class {index} is '{class_names[index]}'"
