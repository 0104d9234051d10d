"""The condensed set as PyTorch datasets: its images, and the stored views that students are trained on.

B images, C channels, H W pixels, K classes. Only files that a manifest vouches for are read, and
their hashes are checked.
"""

from __future__ import annotations

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
from edc_ray.data.condensed.image_parts import part_of_images
from edc_ray.data.condensed.label_epochs import LabelEpochs
from edc_ray.data.condensed.label_rows import places_of, refuse_views_outside, views_of_rows
from edc_ray.data.condensed.label_tables import decoded_label_rows
from edc_ray.data.condensed.shard_files import read_shard_bytes
from edc_ray.digests import digest_of
from edc_ray.errors import ArtifactError


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
        cache: folder of local copies of remote files, to be read the next time; None: nothing is copied.
        ipc: only the first so many images of each class.
        classes: only these, by name, which get the labels 0, 1, ... in this order.

    Attributes:
        images: uint8 [N, C, H, W].
        labels, ipc_ids: int64 [N].
        class_names: by label.
        mean, std: per channel, of pixels in [0, 1]; None where the run does not state them.
        digest: of all pixels by label and ipc id; None where the run does not state it, and of a part.

    Raises:
        ArtifactError: the stage is not complete, or a file is damaged.
        ConfigError: there is no such class, or there are not so many images.
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

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = from_uint8(torch.from_numpy(self.images[index]))
        return (self._transform(image) if self._transform else image), int(self.labels[index])


class LoadedEpoch(NamedTuple):
    """One epoch in memory: its number, what is stored of it, and the same as `core.views.views` takes it."""

    number: int
    rows: LabelRows
    views: EpochViews


class StoredViews:
    """The condensed images, and the stored views of any epoch, which are loaded and rendered here.

    Args:
        url: of a run; or its store.
        storage_options: fsspec's.
        cache: folder of local copies of remote files; None: they are held in memory while they are read.

    Attributes:
        images: uint8 [N, C, H, W], by label, then ipc id.
        class_names: by label.
        mean, std: per channel, of pixels in [0, 1].
        epochs: the stored ones.
        fingerprint: of the stage that made the labels.

    Raises:
        ArtifactError: recover or relabel is not complete, a file is damaged, there are no stored labels, or
            they are those of other images.
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
        _check_labels(self._store, manifest, condensed)
        self._place = places_of(condensed.labels, condensed.ipc_ids)
        self.epochs = LabelEpochs(self._store, folder, manifest, cache)
        self.fingerprint = manifest.fingerprint

    def load(self, epoch: int) -> LoadedEpoch:
        """One epoch, read from its row groups.

        Raises:
            ArtifactError: the epoch is not stored, or its rows name images or classes that are not.
        """
        numbers = self.epochs.numbers
        if epoch not in numbers:
            raise ArtifactError(
                f"{self._store.url} holds no labels of epoch {epoch}",
                found=f"{len(numbers)} epochs",
                expected=f"an epoch of {numbers[0]}..{numbers[-1]}",
                next="train for so many epochs, or raise relabel.epochs and run edc-ray stage relabel: only "
                "the missing epochs are made",
            )
        rows, url = self.epochs.read(epoch), self.epochs.urls(epoch)
        if rows.logits.shape[1] != len(self.class_names):
            raise ArtifactError(
                f"the labels in {url} are of other classes than the images",
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

    Of any row at any time, in any order; `data.condensed.stream.CondensedDataset` gives batches of one epoch
    after another.

    Args:
        url, storage_options, cache: see StoredViews, whose attributes are here, too.
        epoch: shown first; see `set_epoch`.

    Attributes:
        rows: what is stored of the epoch: view parameters and logits.
        views: the same parameters as `render_views` takes them; `views.image` indexes `images`.
        num_epochs: how many epochs are stored.

    Raises:
        ArtifactError: see StoredViews.
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
        """Show another epoch, which is read unless it is shown already.

        Raises:
            ArtifactError: the epoch is not stored, or its rows name images that are not.
        """
        if epoch != self.epoch:
            self._loaded = self.load(epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> View:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[View]:
        """Several views at once; PyTorch's DataLoader asks for a batch this way."""
        images_BCHW, logits_BK, labels_B = self.batch(indices)
        return [
            View(image, logits, int(label))
            for image, logits, label in zip(images_BCHW, logits_BK, labels_B, strict=True)
        ]

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Views float32 [B, C, H, W], logits float32 [B, K] and labels int64 [B] of rows of the epoch."""
        return self.render(self._loaded, indices)


def open_stage(url: str | Store, options: dict[str, Any] | None, stage: str) -> tuple[Store, str, Manifest]:
    """A complete stage, found by the URL of its run or of its own folder: store, folder in it, manifest.

    A store that is already open counts as it is; one opened here may be anybody's (`Store.is_ours`).

    Raises:
        ArtifactError: the stage is not complete there.
    """
    store = url if isinstance(url, Store) else open_store(url, options, writable=False)
    for folder in (layout.stage_folder(stage), ""):
        manifest = read_manifest(store, folder)
        if manifest is not None and manifest.stage == stage:
            return store, folder, manifest
    raise _not_complete(store, stage)


def _not_complete(store: Store, stage: str) -> ArtifactError:
    found, hint = None, f"edc-ray stage {stage} RECIPE, with the storage.root and run.name of this run"
    if not store.list():
        found, hint = "nothing there", "give the URL of a run: <storage.root>/<run.name>"
    elif stage == "relabel" and _is_copy_of_images(store):
        hint = f"label them in another run: init.source={store.url} recover.enabled=false"
    what = f"stage {stage} is not complete in {store.url}"
    return ArtifactError(what, found=found, expected="its manifest", next=hint)


def _is_copy_of_images(store: Store) -> bool:
    is_run = store.exists(layout.RUN_CONFIG)
    return not is_run and read_manifest(store, layout.stage_folder("recover")) is not None


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


def images_digest(manifest: Manifest) -> str | None:
    """Hash of the pixels of every (label, ipc id) of a stage of images, however they are cut into units.

    None where a record does not state its images' hashes.
    """
    hashes = [record.meta.get("image_sha256") for record in manifest.records]
    if None in hashes:
        return None
    return digest_of(sorted(row for rows in hashes for row in rows or ()))


def read_label_rows(store: Store, folder: str, record: Record) -> LabelRows:
    """All label rows of one unit of relabel, decoded from whatever codec they are stored with.

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
        raise ArtifactError(f"{url}: the files of a unit differ in classes or kinds of views, or are none")
    rows = LabelRows.concatenate(parts)
    refuse_repeated(url, {"epoch": rows.epoch, "label": rows.label, "ipc_id": rows.ipc_id})
    return rows


def refuse_no_labels(store: Store, manifest: Manifest) -> None:
    """Refuse a complete stage of relabel without a label.

    Raises:
        ArtifactError: there is none, because students were labelled online.
    """
    if not manifest.records:
        raise ArtifactError(
            f"{store.url} holds no stored labels",
            found="students of this run were labelled online"
            if manifest.meta.get("labels") == "online"
            else None,
            expected="a run with relabel.labels=stored",
            next="set relabel.labels=stored and run edc-ray stage relabel",
        )


def _check_labels(store: Store, manifest: Manifest, images: CondensedImages) -> None:
    refuse_no_labels(store, manifest)
    labelled = manifest.meta.get("images")
    if labelled is not None and images.digest is not None and labelled != images.digest:
        raise ArtifactError(
            f"the labels in {store.url} are those of another image set",
            found=f"labels of the images {labelled}",
            expected=f"labels of the condensed images {images.digest}",
            next="run edc-ray stage relabel again, with the config that made the images",
        )
