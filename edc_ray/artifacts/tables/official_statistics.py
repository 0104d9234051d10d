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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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
_KEYS: dict[str, str] = dict(
    zip(
        QUANTITIES,
        ("running_dd_mean", "running_dd_var", "running_patch_mean", "running_patch_var"),
        strict=True,
    )
)
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
    """Names of a network in a tree. The current programs look for the first.

    Args:
        network: our name, such as resnet18_small.
        class_name: of its Python class, such as ResNet.
    """
    if network in _SMALL_NETWORKS:  # the second: Tiny-ImageNet, and older CIFAR trees
        return f"{class_name}_{_SMALL_NETWORKS[network]}", class_name
    return (f"{class_name}_{network}",) if network in _SUFFIXED else (class_name,)


def find_network_name(store: Store, names: Sequence[str], layers: Sequence[LayerShape]) -> str:
    """The first of these names that the tree has.

    Raises:
        ArtifactError: it has none of them.
    """
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
    class_patch_swapped: bool = True,
    needs_classes: bool = True,
) -> tuple[Rows, str]:
    """All statistics of one network, one array [K, ...] for each layer and quantity.

    Args:
        store: opened at the folder that holds ConvFeatureHook.
        network: see `find_network_name`.
        layers: what the tree must hold, in module order.
        labels: the K classes.
        class_patch_swapped: the class files hold patch mean and variance under each other's key, as the
            official program writes them. They are exchanged back.
        needs_classes: if False, class files may be absent. A layer then has all of them or none.

    Returns:
        Rows of the definition "official", as for `build_statistics_table`, and the SHA-256 of the files.

    Raises:
        ArtifactError: files are missing (says how many and which first), damaged, or of another observer,
            dataset or image size.
    """
    rows: Rows = {}
    sha, missing = hashlib.sha256(), _Missing(store)
    with ThreadPoolExecutor(_THREADS) as pool:
        for layer in layers:
            whole = [_path(layer, network, None)] if layer.kind == "conv" else []
            classes = [_path(layer, network, label) for label in labels]
            if not needs_classes and not store.exists(classes[0]):
                classes = []
            found = list(pool.map(lambda path: (path, _read(store, path)), [*whole, *classes]))
            missing.note(found)
            if missing.paths:
                continue
            for path, data in found:
                sha.update(f"{path}\0".encode() + (data or b""))
            parsed = list(pool.map(_parser(store, layer), found))
            if whole:
                rows[layer.name, layer.kind, "official", "global"] = dict(parsed[0])
            if classes:
                rows[layer.name, layer.kind, "official", "class"] = _stacked(
                    parsed[len(whole) :], class_patch_swapped
                )
    missing.refuse(network)
    return rows, sha.hexdigest()


def refuse_missing_files(
    present: Collection[str],
    store: Store,
    network: str,
    layers: Sequence[LayerShape],
    num_classes: int,
    *,
    needs_classes: bool = True,
) -> None:
    """Refuse a tree that lacks files, by its list of files alone.

    Args:
        present: paths of all its files.
        store, network, layers, needs_classes: as in `read_official_statistics`.
        num_classes: K.

    Raises:
        ArtifactError: says how many are missing and which first.
    """
    missing = _Missing(store)
    for layer in layers:
        wanted = [_path(layer, network, None)] if layer.kind == "conv" else []
        first = _path(layer, network, 0)
        if needs_classes or first in present:
            wanted += [_path(layer, network, label) for label in range(num_classes)]
        missing.note((path, b"" if path in present else None) for path in wanted)
    missing.refuse(network)


def refuse_more_classes(store: Store, network: str, layers: Sequence[LayerShape], num_classes: int) -> None:
    """Refuse a tree of more than K classes.

    Raises:
        ArtifactError: it has class_K, so it belongs to another dataset.
    """
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
        store: of the folder that is to hold ConvFeatureHook.
        network: name in the tree.
        statistics: of all layers. Other definitions and the global rows of BatchNorms are left out.
        class_patch_swapped: exchange the keys of patch mean and variance in the class files, as the official
            program does.

    Returns:
        How many files were written.
    """
    files: list[tuple[str, dict[str, np.ndarray]]] = []
    for (name, kind, definition, scope), values in statistics.items():
        if definition != "official" or (kind == "bn" and scope == "global"):
            continue
        layer = LayerShape(name, kind, 0, 0)
        present = {quantity: array for quantity, array in values.items() if array is not None}
        if scope == "global":
            files.append((_path(layer, network, None), present))
            continue
        named = {_stored_under(quantity, class_patch_swapped): array for quantity, array in present.items()}
        ordered = {quantity: named[quantity] for quantity in QUANTITIES if quantity in named}
        for label in range(len(present["channel_mean"])):
            rows = {quantity: array[label] for quantity, array in ordered.items()}
            files.append((_path(layer, network, label), rows))

    def write(file: tuple[str, dict[str, np.ndarray]]) -> None:
        arrays = {_KEYS[quantity]: np.asarray(array, np.float32) for quantity, array in file[1].items()}
        store.publish(file[0], arrays_to_bytes(arrays), replace=True)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(write, files))
    return len(files)


class _Missing:
    """Files that a tree lacks."""

    def __init__(self, store: Store) -> None:
        self.paths: list[str] = []
        self._store, self._count = store, 0

    def note(self, found: Iterable[tuple[str, bytes | None]]) -> None:
        for path, data in found:
            self._count += 1
            if data is None:
                self.paths.append(path)

    def refuse(self, network: str) -> None:
        if self.paths:
            more = f" and {len(self.paths) - _NAMES_SHOWN} more" if len(self.paths) > _NAMES_SHOWN else ""
            raise ArtifactError(
                f"{self._store.url}: {len(self.paths)} of the {self._count} files of statistics of {network} "
                "are missing",
                found="no " + ", ".join(self.paths[:_NAMES_SHOWN]) + more,
                next="fetch them; without class files, only recover.category_aware=local or none can be used",
            )


def _path(layer: LayerShape, network: str, label: int | None) -> str:
    folder = _HOOKS[layer.kind] + ("" if label is None else f"/class_{label}")
    return f"{folder}/{network}={layer.name}/running.npz"


def _read(store: Store, path: str) -> bytes | None:
    try:
        return store.read(path, limit=MAX_ARRAYS_BYTES)
    except ArtifactError:
        if store.exists(path):
            raise
        return None


def _parser(store: Store, layer: LayerShape) -> Callable[[tuple[str, bytes | None]], dict[str, np.ndarray]]:
    """A function that reads the quantities of a file, under the keys that the file uses."""

    def parse(file: tuple[str, bytes | None]) -> dict[str, np.ndarray]:
        path, data = file
        url = store.join(path)
        arrays = arrays_from_bytes(data or b"", url=url)
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

    return parse


def _stacked(rows: Sequence[dict[str, np.ndarray]], swapped: bool) -> dict[str, np.ndarray | None]:
    return {name: np.stack([row[_stored_under(name, swapped)] for row in rows]) for name in rows[0]}


def _stored_under(quantity: str, swapped: bool) -> str:
    return _EXCHANGED.get(quantity, quantity) if swapped else quantity
