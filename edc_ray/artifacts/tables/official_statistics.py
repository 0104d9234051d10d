"""The official programs' tree of statistics, read and written: one small npz file for each layer and class.

    ConvFeatureHook/<network>=<layer>/running.npz            the whole training set
    ConvFeatureHook/class_<k>/<network>=<layer>/running.npz  class k; patch mean and variance exchanged
    BNFeatureHook/class_<k>/<network>=<layer>/running.npz    class k

<network> is the Python class of the network, in some trees followed by the network's name. A BatchNorm has no
file for the whole set: its own running mean and variance are the target. K classes, C channels, P patches.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from edc_ray.artifacts.storage.limits import MAX_ARRAYS_BYTES
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.codec import arrays_from_bytes, arrays_to_bytes
from edc_ray.artifacts.tables.schema import QUANTITIES, StatisticKey
from edc_ray.errors import ArtifactError

Rows = dict[StatisticKey, dict[str, np.ndarray | None]]

_THREADS = 16  # small files are mostly waited for
_HOOKS = {"conv": "ConvFeatureHook", "bn": "BNFeatureHook"}
TREE_FOLDERS = tuple(_HOOKS.values())
_KEYS = {
    "channel_mean": "running_dd_mean",
    "channel_variance": "running_dd_var",
    "patch_mean": "running_patch_mean",
    "patch_variance": "running_patch_var",
}
_EXCHANGED = {"patch_mean": "patch_variance", "patch_variance": "patch_mean"}
_NAMES_SHOWN = 5

# Networks for small images: our name -> the official one.
_SMALL_NETWORKS = {
    "resnet18_small": "ResNet18",
    "resnet50_small": "ResNet50",
    "resnet101_small": "ResNet101",
    "convnet_w128": "ConvNetW128",
    "convnet_w32": "ConvNetW32",
    "convnet_d1": "ConvNetD1",
    "convnet_d2": "ConvNetD2",
    "mobilenet_v2_small": "MobileNetV2",
    "wrn_16_2": "WRN_16_2",
    "shufflenet_v2_x0_5_small": "ShuffleNetV2_0_5",
}
# Several networks share a Python class; the ImageNet programs tell these apart by a suffix.
_SUFFIXED = {"wide_resnet50_2", "regnet_y_400mf", "regnet_x_400mf"}


@dataclass(frozen=True)
class LayerShape:
    """A layer whose statistics are wanted: kind "bn" or "conv", C, and P (0 for a BatchNorm)."""

    name: str
    kind: str
    channels: int
    patches: int

    @property
    def lengths(self) -> dict[str, int]:
        """Length of each quantity."""
        lengths: dict[str, int] = dict.fromkeys(QUANTITIES[:2], self.channels)
        return lengths | (dict.fromkeys(QUANTITIES[2:], self.patches) if self.kind == "conv" else {})


def official_network_names(network: str, class_name: str) -> tuple[str, ...]:
    """Names in a tree of a network of ours and its Python class. The current programs look for the first."""
    if network in _SMALL_NETWORKS:  # the second: Tiny-ImageNet, and older CIFAR trees
        return f"{class_name}_{_SMALL_NETWORKS[network]}", class_name
    return (f"{class_name}_{network}",) if network in _SUFFIXED else (class_name,)


def find_network_name(store: Store, names: Sequence[str], layers: Sequence[LayerShape]) -> str:
    """The first of these names that the tree has; an ArtifactError if it has none of them."""
    first = next(layer for layer in layers if layer.kind == "conv")
    tried = [_path(first, name, None) for name in names]
    for name, path in zip(names, tried, strict=True):
        if store.exists(path):
            return name
    raise ArtifactError(
        f"{store.url} holds no official statistics of a network {' or '.join(names)}",
        found="no such file",
        expected=" or ".join(tried),
        next="give the folder that holds ConvFeatureHook, of a tree of the same observers",
    )


def read_official_statistics(
    store: Store,
    network: str,
    layers: Sequence[LayerShape],
    labels: Sequence[int],
    *,
    present: Collection[str] | None = None,
    class_patch_swapped: bool = True,
    needs_classes: bool = True,
) -> tuple[Rows, str]:
    """All statistics of one network, one array [K, ...] for each layer and quantity.

    Args:
        store: opened at the folder that holds ConvFeatureHook.
        network: see `find_network_name`.
        layers: what the tree must hold, in module order.
        labels: the K classes.
        present: paths of all files of the tree; None lists them.
        class_patch_swapped: the class files hold patch mean and variance under each other's key, as the
            official program writes them. They are exchanged back.
        needs_classes: if False, class files may be absent. A layer then has all of them or none.

    Returns:
        Rows of the definition "official", as for `build_statistics_table`, and the SHA-256 of the files.

    Raises:
        ArtifactError: files are missing, damaged, or of another observer, dataset or image size.
    """
    if present is None:
        present = frozenset(store.list())
    rows, sha = Rows(), hashlib.sha256()
    files = wanted_files(store, network, layers, labels, present, needs_classes=needs_classes)
    with ThreadPoolExecutor(_THREADS) as pool:
        for layer, (whole, classes) in zip(layers, files, strict=True):
            paths = whole + classes
            contents = list(pool.map(lambda path: store.read(path, limit=MAX_ARRAYS_BYTES), paths))
            for path, data in zip(paths, contents, strict=True):
                sha.update(f"{path}\0".encode() + data)
            parsed = list(pool.map(partial(_parsed, layer), map(store.join, paths), contents))
            if whole:
                rows[layer.name, layer.kind, "official", "global"] = dict(parsed[0])
            if classes:
                by_class = parsed[len(whole) :]
                rows[layer.name, layer.kind, "official", "class"] = {
                    name: np.stack([one[_stored_under(name, class_patch_swapped)] for one in by_class])
                    for name in layer.lengths
                }
    return rows, sha.hexdigest()


def wanted_files(
    store: Store,
    network: str,
    layers: Sequence[LayerShape],
    labels: Sequence[int],
    present: Collection[str],
    *,
    needs_classes: bool = True,
) -> list[tuple[list[str], list[str]]]:
    """Paths of the files of each layer: of the whole training set, and of each class.

    Raises:
        ArtifactError: not all are present. Says how many are missing and which first.
    """
    files = []
    for layer in layers:
        whole = [_path(layer, network, None)] if layer.kind == "conv" else []
        classes = [_path(layer, network, label) for label in labels]
        files.append((whole, classes if needs_classes or classes[0] in present else []))
    wanted = [path for whole, classes in files for path in whole + classes]
    if missing := [path for path in wanted if path not in present]:
        more = f" and {len(missing) - _NAMES_SHOWN} more" if len(missing) > _NAMES_SHOWN else ""
        raise ArtifactError(
            f"{store.url}: {len(missing)} of the {len(wanted)} files of statistics of {network} are missing",
            found="no " + ", ".join(missing[:_NAMES_SHOWN]) + more,
            next="fetch them; without class files, only recover.category_aware=local or none can be used",
        )
    return files


def refuse_more_classes(store: Store, network: str, layers: Sequence[LayerShape], num_classes: int) -> None:
    """Refuse a tree of more than K classes by an ArtifactError: it is of another dataset."""
    beyond = next(_path(layer, network, num_classes) for layer in layers if layer.kind == "conv")
    if store.exists(beyond):
        raise ArtifactError(
            f"{store.url}: statistics of another dataset",
            found=re.sub(r"/[^/]*/running.npz", "", beyond),
            expected=f"{num_classes} classes, class_0 to class_{num_classes - 1}",
            next="give the tree of this dataset, or its recipe",
        )


def write_official_statistics(
    store: Store,
    network: str,
    statistics: Mapping[StatisticKey, Mapping[str, np.ndarray | None]],
    *,
    class_patch_swapped: bool = True,
) -> int:
    """Write the official definition of one network's statistics as the official program does.

    Args:
        store: of the folder that will hold ConvFeatureHook.
        network: name in the tree.
        statistics: of all layers. Other definitions and the global rows of BatchNorms are left out.
        class_patch_swapped: as in `read_official_statistics`.

    Returns:
        How many files were written.
    """
    files: dict[str, dict[str, np.ndarray]] = {}
    for (name, kind, definition, scope), values in statistics.items():
        if definition != "official" or (kind == "bn" and scope == "global"):
            continue
        layer = LayerShape(name, kind, 0, 0)
        present = {quantity: array for quantity, array in values.items() if array is not None}
        if scope == "global":
            files[_path(layer, network, None)] = present
            continue
        named = {_stored_under(quantity, class_patch_swapped): array for quantity, array in present.items()}
        ordered = {quantity: named[quantity] for quantity in QUANTITIES if quantity in named}
        for label in range(len(present["channel_mean"])):
            rows = {quantity: array[label] for quantity, array in ordered.items()}
            files[_path(layer, network, label)] = rows

    def write(path: str) -> None:
        arrays = {_KEYS[quantity]: np.asarray(array, np.float32) for quantity, array in files[path].items()}
        store.publish(path, arrays_to_bytes(arrays), replace=True)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(write, files))
    return len(files)


def _path(layer: LayerShape, network: str, label: int | None) -> str:
    folder = _HOOKS[layer.kind] + ("" if label is None else f"/class_{label}")
    return f"{folder}/{network}={layer.name}/running.npz"


def _parsed(layer: LayerShape, url: str, data: bytes) -> dict[str, np.ndarray]:
    """The quantities of a file, under the keys that the file uses."""
    arrays = arrays_from_bytes(data, url=url)
    if lacking := [_KEYS[name] for name in layer.lengths if _KEYS[name] not in arrays]:
        raise ArtifactError(f"{url} is no file of statistics", found=sorted(arrays), expected=lacking)
    values = {name: np.asarray(arrays[_KEYS[name]], np.float32) for name in layer.lengths}
    for name, length in layer.lengths.items():
        if values[name].shape != (length,):
            raise ArtifactError(
                f"{url}: statistics of another observer, or of images of another size",
                found=f"{_KEYS[name]} {list(values[name].shape)}",
                expected=f"[{length}], as layer '{layer.name}' has",
                next="check squeeze.observers, dataset.image_size and statistics.patch_side",
            )
        if not np.isfinite(values[name]).all():
            raise ArtifactError(f"{url} holds NaN or Inf", found=_KEYS[name])
    return values


def _stored_under(quantity: str, swapped: bool) -> str:
    return _EXCHANGED.get(quantity, quantity) if swapped else quantity
