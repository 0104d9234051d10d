"""The condensed images of a run in order, in their stored encoding, one block of classes at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from edc_ray.artifacts.proof.manifest import read_shard
from edc_ray.artifacts.proof.records import Manifest, Record
from edc_ray.artifacts.storage.layout import join_path
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.checks import check_table
from edc_ray.artifacts.tables.codec import ImageFormat, table_from_bytes
from edc_ray.artifacts.tables.schema import IMAGES_SCHEMA
from edc_ray.data.condensed.images import open_stage
from edc_ray.errors import ConfigError
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.formats.official_images import reencoded
from edc_ray.stages.units.image_shards import Slot, manifest_hashes


class ImagesToExport(NamedTuple):
    """A complete stage of images, and how much of it is exported.

    Fields:
        hashes: of the pixels of each exported image, by label, then ipc id.
        ipc: images of each class; None if classes differ.
        whole: nothing is left out.
    """

    store: Store
    folder: str
    manifest: Manifest
    hashes: dict[Slot, str]
    ipc: int | None
    whole: bool

    @property
    def class_names(self) -> list[str]:
        return list(self.manifest.dataset["class_names"])

    @property
    def stored_bytes(self) -> int:
        """Approximate bytes of the exported images."""
        stored = sum(shard.bytes for shard in self.manifest.shards)
        return stored * len(self.hashes) // len(manifest_hashes(self.manifest))


def images_to_export(url: str | Store, ipc: int | None) -> ImagesToExport:
    """The condensed images of a run, or the first `ipc` of each class; a ConfigError if there are fewer."""
    store, folder, manifest = open_stage(url, None, "recover")
    hashes = dict(sorted(manifest_hashes(manifest).items()))
    most = max(ipc_id for _, ipc_id in hashes) + 1
    if ipc is not None and ipc > most:
        raise ConfigError(
            f"{store.url} holds fewer images",
            found=f"{most} images a class",
            expected=f"--ipc of at most {most}",
            next=f"raise ipc and rerun, which makes only the missing images, or leave --ipc {ipc} out",
        )
    kept = {slot: sha for slot, sha in hashes.items() if ipc is None or slot[1] < ipc}
    of_class = set(Counter(label for label, _ in kept).values())
    even = of_class.pop() if len(of_class) == 1 else None
    return ImagesToExport(store, folder, manifest, kept, even, len(kept) == len(hashes))


def encoded_images(source: ImagesToExport, format: ImageFormat | None = None) -> Iterator[dict[Slot, bytes]]:
    """PNG or JPEG bytes of the images, by label, then ipc id. Each dict holds whole classes.

    Units with classes in common are read together. With recover.order=official these are all units.
    """
    for records in _blocks_of_classes(source):
        images: dict[Slot, bytes] = {}
        for record in records:
            images |= _images_of(source, record)
        kept = sorted(slot for slot in images if slot in source.hashes)
        yield {slot: reencoded(images[slot], format) for slot in kept}


def images_of_files(
    source: ImagesToExport, options: ExportOptions
) -> Iterator[tuple[int, int, dict[Slot, bytes]]]:
    """For each file to write: its number, how many there are, and its images, in order."""
    ends = parts_of(len(source.hashes), source.stored_bytes, options.shard_bytes)
    held, done, number = dict[Slot, bytes](), 0, 0
    for images in encoded_images(source, options.image_format):
        for slot, data in images.items():
            held[slot] = data
            if done + len(held) == ends[number]:
                yield number, len(ends), held
                done, number, held = ends[number], number + 1, {}


def parts_of(count: int, total_bytes: int, part_bytes: int) -> list[int]:
    """Index of the image at which each file ends when `count` images are divided evenly among files."""
    files = min(count, max(1, -(-total_bytes // part_bytes)))
    return [count * (number + 1) // files for number in range(files)]


def _blocks_of_classes(source: ImagesToExport) -> Iterator[list[Record]]:
    spans = []
    for record in source.manifest.records:
        hashes = record.meta["image_sha256"]
        if labels := [label for label, ipc_id, _ in hashes if (label, ipc_id) in source.hashes]:
            spans.append((min(labels), max(labels), record))
    block, last = list[Record](), -1
    for first, end, record in sorted(spans, key=lambda span: span[:2]):
        if block and first > last:
            yield block
            block = []
        block, last = [*block, record], max(last, end)
    yield block


def _images_of(source: ImagesToExport, record: Record) -> dict[Slot, bytes]:
    images: dict[Slot, bytes] = {}
    for shard in record.shards:
        location = source.store.join(join_path(source.folder, shard.path))
        table = table_from_bytes(read_shard(source.store, source.folder, shard), url=location)
        check_table(table, IMAGES_SCHEMA.names, url=location)
        encoded = table.column("image").combine_chunks().field("bytes").to_pylist()
        slots = zip(table.column("label").to_pylist(), table.column("ipc_id").to_pylist(), strict=True)
        images |= dict(zip(slots, encoded, strict=True))
    return images
