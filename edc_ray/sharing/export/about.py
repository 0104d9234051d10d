"""What a set that is given away is, and what it was made of: the facts of edc_ray.json and of its card."""

from __future__ import annotations

from typing import Any

from edc_ray.artifacts.proof.manifest import read_manifest, read_shard
from edc_ray.artifacts.storage.layout import join_path, stage_folder
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.schema import read_images_table
from edc_ray.digests import digest_of
from edc_ray.sharing.export.images import ImagesToExport
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.run_facts import facts_of
from edc_ray.version import __version__

ABOUT_VERSION = 1
_FACTS = ("method", "seed", "config", "data", "observers", "made_by", "results")


def about_export(
    source: ImagesToExport, labels: dict[str, Any] | None, options: ExportOptions
) -> dict[str, Any]:
    """The facts, as JSON values.

    Args:
        source: the images.
        labels: of the exported labels: epochs, codec; None where there are none.
        options: of the export.
    """
    manifest = source.manifest
    facts = facts_of(source.store, manifest)
    return {
        "format": options.format,
        "version": ABOUT_VERSION,
        "exported_by": f"edc-ray {__version__}",
        "license": options.license,
        "dataset": manifest.dataset,
        "images": _about_images(source, facts),
        "labels": labels,
        **{name: facts[name] for name in _FACTS},
    }


def export_fingerprint(about: dict[str, Any], source: ImagesToExport, options: ExportOptions) -> str:
    """Hash of all that determines the bytes of an export."""
    how = [options.ipc, options.epochs, options.image_format, options.shard_bytes]
    relabel = read_manifest(source.store, stage_folder("relabel"))
    labels = [shard.sha256 for shard in relabel.shards] if relabel and about["labels"] else []
    return digest_of([about, how, [shard.sha256 for shard in source.manifest.shards], labels])


def _about_images(source: ImagesToExport, facts: dict[str, Any]) -> dict[str, Any]:
    record = next(record for record in source.manifest.records if record.shards)
    url = source.store.join(join_path(source.folder, record.shards[0].path))
    first = table_from_bytes(read_shard(source.store, source.folder, record.shards[0]), url=url).slice(0, 1)
    _, channels, size, _ = read_images_table(first, url=url).images.shape
    meta = source.manifest.meta
    return {
        "number": len(source.hashes), "ipc": source.ipc, "size": size, "channels": channels,
        "mean": meta.get("mean"), "std": meta.get("std"),
        "whole": source.whole and (facts.get("images") or {}).get("whole", True),
        "pixels": digest_of([[*slot, sha] for slot, sha in sorted(source.hashes.items())]),
    }  # fmt: skip
