"""The condensed set as PyTorch datasets: its images, and the stored views that students are trained on.

B images, C channels, H W pixels, K classes. Only files that a manifest names are read, after a check of their
hashes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from edc_ray.artifacts.proof.manifest import Manifest, Record, read_manifest, read_shard
from edc_ray.artifacts.storage import layout
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.checks import refuse_repeated
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.schema import ImageRows, LabelRows, read_images_table
from edc_ray.core.pixels import from_uint8
from edc_ray.core.views.views import EpochViews, render_views
from edc_ray.data.condensed.label_epochs import LabelEpochs
from edc_ray.data.condensed.label_rows import (
    decoded_label_rows,
    places_of,
    refuse_views_outside,
    views_of_rows,
)
from edc_ray.data.condensed.shard_files import read_shard_bytes
from edc_ray.digests import digest_of
from edc_ray.errors import ArtifactError, ConfigError


class View(NamedTuple):
    """A mixed, normalised view float32 [C, H, W], its logits float32 [K], and the label of its own image."""

    image: Tensor
    logits: Tensor
    label: int


class CondensedImages(Dataset[tuple[Any, int]]):
    """Images and labels of a complete condensed set, or of a part of it.

    Args:
        url: of a run, or of the folder of one of its stages; or the store.
        storage_options: fsspec's.
        transform: applied to each image, float32 [C, H, W] in [0, 1].
        stage: "recover" for the condensed images, "init" for those before recovery.
        cache: folder for local copies of remote files; None: no copies.
        ipc: keep only the first images of each class, this many.
        classes: names of the classes to keep, which get the labels 0, 1, ... in this order.

    Attributes:
        images: uint8 [N, C, H, W].
        labels, ipc_ids: int64 [N].
        class_names: by label.
        mean, std: per channel, of pixels in [0, 1]; None if the run does not state them.
        digest: of all pixels by label and ipc id; None for a part, or if the run does not state it.

    Raises:
        ArtifactError: the stage is not complete, or a file is damaged.
        ConfigError: a class does not exist or is named twice, none is named, or there are fewer images.
    """

    def __init__(
        self,
        url: str | Store,
        storage_options: dict[str, Any] | None = None,
        *,
        transform: Callable[[Tensor], Any] | None = None,
        stage: str = "recover",
        cache: str | None = None,
        ipc: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        store, folder, manifest = open_stage(url, storage_options, stage)
        rows = read_condensed_images(store, folder, manifest, cache)
        if ipc is not None or classes is not None:
            rows = part_of_images(rows, ipc, classes, url=store.url)
        self.images, self.labels, self.ipc_ids = rows.images, rows.labels, rows.ipc_ids
        self.class_names = rows.class_names
        self.digest = images_digest(manifest) if ipc is None and classes is None else None
        self.mean: list[float] | None = manifest.meta.get("mean")
        self.std: list[float] | None = manifest.meta.get("std")
        self._transform = transform

    def __repr__(self) -> str:
        return f"CondensedImages: {len(self)} of {len(self.class_names)} classes, {self.images.shape[1:]}"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = from_uint8(torch.from_numpy(self.images[index]))
        return (self._transform(image) if self._transform else image), int(self.labels[index])


class LoadedEpoch(NamedTuple):
    """One epoch in memory: its number, its stored rows, and their parameters for `core.views.views`."""

    number: int
    rows: LabelRows
    views: EpochViews


class StoredViews:
    """The condensed images and the stored views of any epoch, loaded and rendered on demand.

    Args:
        url: of a run, or its store.
        storage_options, cache: see CondensedImages.

    Attributes:
        images: uint8 [N, C, H, W], by label, then ipc id.
        class_names: by label.
        mean, std: per channel, of pixels in [0, 1].
        epochs: the stored ones.
        fingerprint: of the stage that made the labels.

    Raises:
        ArtifactError: recover or relabel is not complete, a file is damaged, or there are no stored labels
            of these images.
    """

    def __init__(
        self, url: str | Store, storage_options: dict[str, Any] | None = None, cache: str | None = None
    ) -> None:
        condensed = CondensedImages(url, storage_options, cache=cache)
        self._store, folder, manifest = open_stage(url, storage_options, "relabel")
        self.images, self.class_names = condensed.images, condensed.class_names
        self.mean: list[float] = manifest.meta.get("mean") or condensed.mean or []
        self.std: list[float] = manifest.meta.get("std") or condensed.std or []
        if len(self.mean) != self.images.shape[1] or len(self.std) != self.images.shape[1]:
            raise ArtifactError(f"{self._store.url} does not state mean and std", next="run relabel again")
        refuse_no_labels(self._store, manifest)
        labelled = manifest.meta.get("images")
        if labelled is not None and condensed.digest is not None and labelled != condensed.digest:
            raise ArtifactError(
                f"the labels in {self._store.url} belong to another image set",
                found=f"labels of the images {labelled}",
                expected=f"labels of the condensed images {condensed.digest}",
                next="run edc-ray stage relabel again, with the config that made the images",
            )
        self._place = places_of(condensed.labels, condensed.ipc_ids)
        self.epochs = LabelEpochs(self._store, folder, manifest, cache)
        self.fingerprint = manifest.fingerprint

    def load(self, epoch: int) -> LoadedEpoch:
        """One epoch, read from its row groups.

        Raises:
            ArtifactError: the epoch is not stored, or its rows name unknown images or classes.
        """
        numbers = self.epochs.numbers
        if epoch not in numbers:
            raise ArtifactError(
                f"{self._store.url} holds no labels of epoch {epoch}",
                found=f"{len(numbers)} epochs",
                expected=f"an epoch of {numbers[0]}..{numbers[-1]}",
                next="use only these, or raise relabel.epochs and run edc-ray stage relabel, which makes the "
                "missing epochs",
            )
        rows, url = self.epochs.read(epoch), self.epochs.urls(epoch)
        if rows.logits.shape[1] != len(self.class_names):
            raise ArtifactError(
                f"the labels in {url} have other classes than the images",
                found=f"{rows.logits.shape[1]} classes",
                expected=f"{len(self.class_names)} classes",
                next="run relabel again",
            )
        refuse_views_outside(rows, self.images.shape[-1], url=url)
        return LoadedEpoch(epoch, rows, views_of_rows(rows, self._place, url=url))

    def render(
        self, loaded: LoadedEpoch, indices: Sequence[int] | np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Views float32 [B, C, H, W], logits float32 [B, K] and labels int64 [B] of rows of an epoch."""
        chosen = np.asarray(indices, np.int64)
        images_NCHW = torch.from_numpy(self.images)
        images_BCHW = render_views(images_NCHW, loaded.views, chosen, mean=self.mean, std=self.std)
        logits_BK = torch.from_numpy(loaded.rows.logits[chosen]).float()
        return images_BCHW, logits_BK, torch.from_numpy(loaded.rows.label[chosen])


class CondensedViews(StoredViews, Dataset[View]):
    """The stored views of one epoch at a time, in the order in which they were labelled.

    Any row can be read at any time. `data.condensed.stream.CondensedDataset` gives batches of one epoch after
    another.

    Args:
        url, storage_options, cache: see StoredViews, whose attributes and errors this class has, too.
        epoch: the first to show; see `set_epoch`.

    Attributes:
        epoch: its number.
        rows: the stored view parameters and logits of the epoch.
        views: the parameters for `render_views`. `views.image` indexes `images`.
        num_epochs: number of stored epochs.
    """

    def __init__(
        self,
        url: str | Store,
        storage_options: dict[str, Any] | None = None,
        *,
        epoch: int = 0,
        cache: str | None = None,
    ) -> None:
        super().__init__(url, storage_options, cache)
        self.num_epochs = len(self.epochs.numbers)
        self._loaded = self.load(epoch)

    @property
    def epoch(self) -> int:
        return self._loaded.number

    @property
    def rows(self) -> LabelRows:
        return self._loaded.rows

    @property
    def views(self) -> EpochViews:
        return self._loaded.views

    def set_epoch(self, epoch: int) -> None:
        """Show another epoch. Raises what `load` raises."""
        if epoch != self.epoch:
            self._loaded = self.load(epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> View:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[View]:
        """Several views at once, for PyTorch's DataLoader."""
        images_BCHW, logits_BK, labels_B = self.batch(indices)
        return [
            View(image, logits, int(label))
            for image, logits, label in zip(images_BCHW, logits_BK, labels_B, strict=True)
        ]

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Views float32 [B, C, H, W], logits float32 [B, K] and labels int64 [B] of rows of the epoch."""
        return self.render(self._loaded, indices)


def open_stage(url: str | Store, options: dict[str, Any] | None, stage: str) -> tuple[Store, str, Manifest]:
    """A complete stage by the URL or store of its run or of its own folder: store, folder in it, manifest.

    A store that is opened here may be anybody's (`Store.is_ours`).

    Raises:
        ArtifactError: the stage is not complete there.
    """
    store = url if isinstance(url, Store) else open_store(url, options, writable=False)
    for folder in (layout.stage_folder(stage), ""):
        manifest = read_manifest(store, folder)
        if manifest is not None and manifest.stage == stage:
            return store, folder, manifest
    has_images = read_manifest(store, layout.stage_folder("recover")) is not None
    found, hint = None, f"edc-ray stage {stage} RECIPE, with the storage.root and run.name of this run"
    if not store.list():
        found, hint = "nothing there", "give the URL of a run: <storage.root>/<run.name>"
    elif stage == "relabel" and not store.exists(layout.RUN_CONFIG) and has_images:
        hint = f"label them in another run: init.source={store.url} recover.enabled=false"
    what = f"stage {stage} is not complete in {store.url}"
    raise ArtifactError(what, found=found, expected="its manifest", next=hint)


def read_condensed_images(
    store: Store, folder: str, manifest: Manifest, cache: str | None = None
) -> ImageRows:
    """All images of a complete stage, by label, then ipc id.

    Raises:
        ArtifactError: a file is missing or damaged, or there are no images.
    """
    parts = []
    for shard in manifest.shards:
        url = store.join(layout.join_path(folder, shard.path))
        data = read_shard_bytes(store, folder, shard, cache)
        table = table_from_bytes(data, url=url, ours=store.is_ours)
        parts.append(read_images_table(table, url=url))
    parts = [part for part in parts if len(part.labels)]
    if not parts:
        raise ArtifactError(f"{store.url}: stage {manifest.stage} holds no images")
    labels = np.concatenate([part.labels for part in parts])
    ipc_ids = np.concatenate([part.ipc_ids for part in parts])
    refuse_repeated(store.join(folder or layout.MANIFEST_NAME), {"label": labels, "ipc_id": ipc_ids})
    if len({(part.images.shape[1:], part.class_names) for part in parts}) > 1:
        raise ArtifactError(f"{store.url}: files of {manifest.stage} differ in classes or size of images")
    order = np.lexsort((ipc_ids, labels))
    images = np.concatenate([part.images for part in parts])[order]
    return ImageRows(images, labels[order], ipc_ids[order], parts[0].class_names)


def part_of_images(
    rows: ImageRows, ipc: int | None, classes: Sequence[str] | None, *, url: str = "a condensed set"
) -> ImageRows:
    """Some images of a set, by label, then ipc id. Arguments and errors: see CondensedImages."""
    known, names = rows.class_names, rows.class_names if classes is None else tuple(classes)
    if not names or len(set(names)) < len(names):
        raise ConfigError("name at least one class, and each class once", found=", ".join(names) or "none")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"{url} has no class '{name}'",
                expected=", ".join(known[:5]) + (", ..." if len(known) > 5 else ""),
                next=f"did you mean '{near[0]}'?" if near else None,
            )
    most = int(rows.ipc_ids.max()) + 1
    if ipc is not None and not 1 <= ipc <= most:
        raise ConfigError(f"{url} has fewer images of a class", found=f"ipc={ipc}", expected=f"1 to {most}")
    label_of = np.full(len(known), -1)
    label_of[[known.index(name) for name in names]] = np.arange(len(names))
    labels = label_of[rows.labels]
    kept = np.flatnonzero((labels >= 0) & (rows.ipc_ids < (most if ipc is None else ipc)))
    kept = kept[np.lexsort((rows.ipc_ids[kept], labels[kept]))]
    return ImageRows(rows.images[kept], labels[kept], rows.ipc_ids[kept], names)


def images_digest(manifest: Manifest) -> str | None:
    """Hash of a stage's pixels by label and ipc id, whatever its units; None if a record states no hashes."""
    hashes = [record.meta.get("image_sha256") for record in manifest.records]
    if None in hashes:
        return None
    return digest_of(sorted(row for rows in hashes for row in rows or ()))


def read_label_rows(store: Store, folder: str, record: Record) -> LabelRows:
    """All label rows of one unit of relabel, decoded from any codec.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    parts = []
    for shard in record.shards:
        url = store.join(layout.join_path(folder, shard.path))
        table = table_from_bytes(read_shard(store, folder, shard), url=url, ours=store.is_ours)
        parts.append(decoded_label_rows(table, url=url))
    url = store.join(layout.join_path(folder, record.unit))
    kinds = [(part.logits.shape[1], part.band_rows is None, part.change_operation is None) for part in parts]
    if len(set(kinds)) != 1:
        raise ArtifactError(f"{url}: a unit has no files, or they differ in classes or kinds of views")
    rows = LabelRows.concatenate(parts)
    refuse_repeated(url, {"epoch": rows.epoch, "label": rows.label, "ipc_id": rows.ipc_id})
    return rows


def refuse_no_labels(store: Store, manifest: Manifest) -> None:
    """Refuse a complete relabel stage without labels.

    Raises:
        ArtifactError: there are none, because students were labelled online.
    """
    if not manifest.records:
        online = manifest.meta.get("labels") == "online"
        raise ArtifactError(
            f"{store.url} holds no stored labels",
            found="students of this run were labelled online" if online else None,
            expected="a run with relabel.labels=stored",
            next="set relabel.labels=stored and run edc-ray stage relabel",
        )
