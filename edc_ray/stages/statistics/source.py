"""`statistics.source`: statistics of an official tree or of another run, instead of collected ones.

C channels, P patches, K classes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import nn

from edc_ray.artifacts.proof.manifest import read_manifest, read_shard
from edc_ray.artifacts.proof.records import Manifest, Record, ShardInfo
from edc_ray.artifacts.storage.layout import RUN_DATA, join_path, network_key, stage_folder, table_name
from edc_ray.artifacts.storage.limits import MAX_CONFIG_BYTES
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.official_statistics import (
    TREE_FOLDERS,
    LayerShape,
    Rows,
    find_network_name,
    official_network_names,
    read_official_statistics,
    refuse_more_classes,
    wanted_files,
)
from edc_ray.artifacts.tables.schema import read_statistics_table
from edc_ray.config.run import RunConfig
from edc_ray.config.stages import StatisticsConfig
from edc_ray.core.layers.taps import LayerTaps
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.models.official_paths import official_path
from edc_ray.models.registry import build_network
from edc_ray.stages.units.stored_runs import check_classes

FOLDER = stage_folder("statistics")
_SOUND_RATIOS = (0.67, 1.5)  # wide: classes may differ in size

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What is needed of one observer: layers in module order, classes by label, variances."""

    observer: str
    class_name: str  # of the network, in Python
    layers: list[LayerShape]
    class_names: tuple[str, ...]
    definitions: tuple[str, ...]
    by_class: bool

    @property
    def official_layers(self) -> list[LayerShape]:
        """The layers under their names in an official tree."""
        return [replace(layer, name=official_path(self.observer, layer.name)) for layer in self.layers]


@dataclass(frozen=True)
class TreeSource:
    """An official tree; `class_patch_swapped` as in `read_official_statistics`."""

    store: Store
    class_patch_swapped: bool = True

    def check(self, wanted: Wanted) -> None:
        """Refuse what does not fit: list the tree, read the global files and those of two classes."""
        files = self._files
        if not any(path.partition("/")[0] in TREE_FOLDERS for path in files):
            raise ConfigError(
                f"there are no statistics in {self.store.url}",
                found="other files" if files else "nothing",
                expected=f"a run whose statistics are complete, or a tree of {' and '.join(TREE_FOLDERS)}",
                next="check the name of the folder",
            )
        if other := [definition for definition in wanted.definitions if definition != "official"]:
            raise ConfigError(
                f"an official tree holds no {other[0]} statistics",
                found=f"recover.variance={other[0]}",
                next="set recover.variance=official, or method=edc_official",
            )
        num_classes = len(wanted.class_names)
        wanted_files(  # refuses a tree that lacks some
            self.store,
            self.network_name(wanted),
            wanted.official_layers,
            range(num_classes),
            self._files,
            needs_classes=wanted.by_class,
        )
        self._read(wanted, [0, num_classes - 1])

    @cached_property
    def _files(self) -> frozenset[str]:
        return frozenset(self.store.list())

    def read(self, wanted: Wanted) -> tuple[Rows, str]:
        """Rows of one observer, and the SHA-256 of the files that hold them."""
        rows, digest = self._read(wanted, range(len(wanted.class_names)))
        ratio = global_to_class_ratio(rows)
        if ratio is not None and not _SOUND_RATIOS[0] < ratio < _SOUND_RATIOS[1]:
            _log.warning(
                "%s: the global statistics of %s are %.2f times the mean of its classes; the official "
                "program adds to files that it finds (2), and divides by the full set's size (less)",
                self.store.url, wanted.observer, ratio,
            )  # fmt: skip
        return rows, digest

    def network_name(self, wanted: Wanted) -> str:
        """What the tree calls the observer."""
        names = official_network_names(wanted.observer, wanted.class_name)
        return find_network_name(self.store, names, wanted.official_layers)

    def _read(self, wanted: Wanted, labels: Sequence[int]) -> tuple[Rows, str]:
        network, layers = self.network_name(wanted), wanted.official_layers
        refuse_more_classes(self.store, network, layers, len(wanted.class_names))
        rows, digest = read_official_statistics(
            self.store,
            network,
            layers,
            labels,
            present=self._files,
            class_patch_swapped=self.class_patch_swapped,
            needs_classes=wanted.by_class,
        )
        ours = {theirs.name: own.name for theirs, own in zip(layers, wanted.layers, strict=True)}
        return {(ours[key[0]], *key[1:]): values for key, values in rows.items()}, digest


@dataclass(frozen=True)
class RunSource:
    """The statistics of a run, or of what `edc-ray import-statistics` wrote."""

    store: Store
    folder: str
    manifest: Manifest

    def read(self, wanted: Wanted) -> tuple[Rows, str]:
        """Rows of one observer, and the SHA-256 of the file that holds them."""
        check_classes(self.manifest, wanted.class_names, self.store.url)
        shard = self._record(wanted.observer).shards[0]
        rows = read_rows(self.store, self.folder, shard)
        _check_rows(rows, wanted, self.store.join(join_path(self.folder, shard.path)))
        return rows, shard.sha256

    def weights(self, observer: str) -> str | None:
        """SHA-256 of the weights that the statistics belong to; None if they were imported."""
        return self._record(observer).meta.get("weights")

    def _record(self, observer: str) -> Record:
        path = table_name(network_key(observer))
        for record in self.manifest.records:
            if any(shard.path == path for shard in record.shards):
                return record
        raise ArtifactError(
            f"{self.store.url} holds no statistics of observer '{observer}'",
            found=", ".join(record.unit for record in self.manifest.records),
            expected=observer,
            next="give statistics of the observers that recover uses, or set recover.observers",
        )


def read_rows(store: Store, folder: str, shard: ShardInfo) -> Rows:
    url = store.join(join_path(folder, shard.path))
    table = table_from_bytes(read_shard(store, folder, shard), url=url, ours=store.is_ours)
    return read_statistics_table(table, url=url)


def global_to_class_ratio(rows: Rows) -> float | None:
    """Global mean divided by the classes' mean, median over layers: 1 if all classes have one size."""
    ratios = []
    for (layer, kind, definition, scope), values in rows.items():
        classes = rows.get((layer, kind, definition, "class"))
        if scope == "global" and classes is not None:
            whole, by_class = values["channel_mean"], classes["channel_mean"]
            assert whole is not None
            assert by_class is not None
            mean = by_class.mean(0, dtype=np.float64)
            if (energy := float(mean @ mean)) > 0:
                ratios.append(float(whole @ mean) / energy)
    return float(np.median(ratios)) if ratios else None


def open_source(section: StatisticsConfig) -> TreeSource | RunSource:
    """What `statistics.source` names: a run if it has a manifest of statistics, else an official tree."""
    assert section.source is not None
    store, exchanged = open_store(section.source, writable=False), section.source_keys == "exchanged"
    for folder in (FOLDER, ""):
        manifest = read_manifest(store, folder)
        if manifest is not None and manifest.stage == "statistics":
            if not exchanged:
                raise ConfigError(
                    "statistics.source_keys is for official trees",
                    found=f"{store.url}, whose statistics are under their own names already",
                    next="unset it; edc-ray import-statistics has the flag --no-class-patch-swapped",
                )
            return RunSource(store, folder, manifest)
    return TreeSource(store, exchanged)


def wanted_of(config: RunConfig, name: str, network: nn.Module, class_names: Sequence[str]) -> Wanted:
    """What is needed of an observer. Only the shape of the network matters, not its weights."""
    spec, request = config.dataset, config.statistics_request
    assert spec.image_size is not None
    return Wanted(
        observer=name,
        class_name=type(network).__name__,
        layers=layer_shapes(network, spec.image_size, spec.channels or 3, config.statistics.patch_side),
        class_names=tuple(class_names),
        definitions=tuple(sorted(request.definitions)),
        by_class=request.by_class,
    )


@torch.no_grad()
def layer_shapes(network: nn.Module, image_size: int, channels: int, patch_side: int) -> list[LayerShape]:
    """Layers, channels and patches that a network has for images of one size."""
    taps = LayerTaps(network.eval())
    device = next(network.parameters()).device
    with taps.recording() as inputs:
        network(torch.zeros(1, channels, image_size, image_size, device=device))
    shapes = []
    for layer, kind in taps.kinds.items():
        _, width, *sides = inputs[layer].shape
        patches = int(np.prod([-(-side // patch_side) for side in sides])) if kind == "conv" else 0
        shapes.append(LayerShape(layer, kind, width, patches))
    return shapes


def check_source(config: RunConfig, data: OpenedDataset) -> None:
    """Refuse a `statistics.source` of another observer, dataset or image size: ConfigError, ArtifactError."""
    if config.statistics.source is None:
        return
    source, names_found = open_source(config.statistics), dict[str, str]()
    if isinstance(source, RunSource):
        _refuse_other_dataset(source, config, data)
    for name in config.statistics_request.observers:
        network = build_network(name, **data.train.network_shape, seed=0)
        wanted = wanted_of(config, name, network, data.train.class_names)
        if isinstance(source, RunSource):
            source.read(wanted)
        else:
            source.check(wanted)
            refuse_shared_name(names_found, name, source.network_name(wanted))


def _refuse_other_dataset(source: RunSource, config: RunConfig, data: OpenedDataset) -> None:
    """Refuse a run of other images, unless its dataset has the same name, as a part of a dataset may have."""
    stored = source.store.read_if_there(RUN_DATA, limit=MAX_CONFIG_BYTES)
    if stored is None:  # imported: only the classes are known
        return
    theirs, ours = source.manifest.dataset["name"], config.dataset.name
    if theirs != ours and json.loads(stored)["train"]["sha256"] != data.train.content_hash:
        raise ArtifactError(
            f"{source.store.url}: statistics of another dataset",
            found=f"dataset.name={theirs}, and other training images",
            expected=f"those of {ours}",
            next=f"give statistics of this dataset; of a part of {theirs}, say dataset.name={theirs}",
        )


def refuse_shared_name(taken: dict[str, str], observer: str, network: str) -> None:
    """Note which observer has a name of the tree; an ArtifactError if another one has it."""
    if network in taken:  # in an old tree, networks of one class overwrote each other's files
        raise ArtifactError(
            f"observers '{taken[network]}' and '{observer}' have one name in the official tree",
            found=f"{network}=...",
            expected="names with the network's own, such as ConvNet_ConvNetD1=...",
            next="use a newer tree, or only one of them in recover.observers",
        )
    taken[network] = observer


def _check_rows(rows: Rows, wanted: Wanted, url: str) -> None:
    """Refuse a table without the wanted rows, or with rows of other lengths."""
    scopes = ("global", "class") if wanted.by_class else ("global",)
    for layer, definition, scope in product(wanted.layers, wanted.definitions, scopes):
        values = rows.get((layer.name, layer.kind, definition, scope))
        lead = (len(wanted.class_names),) if scope == "class" else ()
        if values is None and (layer.kind, definition, scope) == ("bn", "official", "global"):
            continue  # the observer's own
        if values is None:
            raise ArtifactError(
                f"{url} lacks {definition} {scope} statistics of layer '{layer.name}'",
                found=sorted({f"{key[2]} {key[3]}" for key in rows if key[0] == layer.name}),
                expected=f"{definition} {scope}",
                next="set recover.variance or recover.category_aware to what there is, or take others",
            )
        for quantity, length in layer.lengths.items():
            array = values[quantity]
            if array is None or array.shape != (*lead, length):
                raise ArtifactError(
                    f"{url}: statistics of another observer, dataset or image size",
                    found=f"{quantity} {None if array is None else list(array.shape)}",
                    expected=f"{[*lead, length]}, as layer '{layer.name}' has",
                    next="check squeeze.observers, the dataset and statistics.patch_side",
                )
