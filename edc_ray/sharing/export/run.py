"""A condensed set in a layout that other programs read: `edc-ray export`.

official, rded    for the programs of EDC and RDED: `export_official`
huggingface       data/*.parquet, labels/*.parquet; `edc_ray.data.condensed` reads it too
imagefolder       train/00000/class00000_id00000.png
webdataset        data-000000.tar

The last three have a card (README.md) and edc_ray.json, which states the hash of every file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edc_ray.artifacts.proof.manifest import read_manifest, read_shard
from edc_ray.artifacts.storage.layout import join_path, stage_folder
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.schema import read_images_table
from edc_ray.data.condensed.images import open_stage, refuse_no_labels
from edc_ray.digests import digest_of
from edc_ray.sharing.export.huggingface import write_image_tables, write_label_tables
from edc_ray.sharing.export.images import ImagesToExport, images_to_export
from edc_ray.sharing.export.official import export_official
from edc_ray.sharing.export.options import ExportOptions, check_options
from edc_ray.sharing.export.parts import labels_left_out, parts_to_export, records_of_epochs
from edc_ray.sharing.export.target import ExportTarget
from edc_ray.sharing.export.trees import write_image_tree, write_tars
from edc_ray.sharing.facts import facts_of
from edc_ray.version import __version__

Card = Callable[[dict[str, Any]], str]
ABOUT_VERSION = 1


def export_run(url: str | Store, dest: str, options: ExportOptions, card: Card | None = None) -> list[str]:
    """Write a condensed set, with its labels, in another layout. An interrupted call resumes.

    Args:
        url: of the run, or of an imported or compressed set; or its store.
        dest: URL of the folder to write.
        options: the layout and its options.
        card: makes the text of README.md from the facts of edc_ray.json; None writes none.

    Returns:
        A sentence for each part, and one about labels that are left out.

    Raises:
        ConfigError: the format lacks an option or part, the run has fewer images or epochs than the options
            name, or the folder holds something else.
        ArtifactError: the run lacks a part, a file is missing or damaged, or the official layout cannot hold
            its labels.
    """
    check_options(options)
    left_out = labels_left_out(url, options)
    if options.format in ("official", "rded"):
        told = export_official(url, dest, options)
    else:
        told = [_export_with_card(url, dest, options, card, left_out)]
    if left_out:
        why = "they belong to all images of the set, exactly as they were labelled"
        told.append(f"{left_out} leaves out the labels: {why}")
    return told


def _export_with_card(
    url: str | Store, dest: str, options: ExportOptions, card: Card | None, left_out: str | None
) -> str:
    source = images_to_export(url, options.ipc)
    labels = _labels(url, options)
    about = about_export(source, labels, options) | {"labels_left_out": left_out}
    target = ExportTarget(open_store(dest), export_fingerprint(about, source, options))
    target.begin()
    if options.format == "huggingface":
        if labels:
            write_label_tables(url, target, labels["epochs"])
        write_image_tables(source, target, options)
    elif options.format == "imagefolder":
        write_image_tree(source, target, options)
    else:
        write_tars(source, target, options)
    if card is not None:
        target.put("README.md", card(about | {"files": dict(sorted(target.files.items()))}).encode())
    target.finish(about)
    told = f"{target.store.url}: {len(source.hashes)} images"
    return told + (f", labels of {labels['epochs']} epochs" if labels else "")


def about_export(
    source: ImagesToExport, labels: dict[str, Any] | None, options: ExportOptions
) -> dict[str, Any]:
    """The facts of edc_ray.json and of the card, as JSON values; `labels`: epochs and codec, or None."""
    facts = facts_of(source.store, source.manifest)
    return facts | {
        "format": options.format,
        "version": ABOUT_VERSION,
        "exported_by": f"edc-ray {__version__}",
        "license": options.license,
        "dataset": source.manifest.dataset,
        "images": _about_images(source, facts),
        "labels": labels,
    }


def export_fingerprint(about: dict[str, Any], source: ImagesToExport, options: ExportOptions) -> str:
    """Hash of everything that determines the bytes of an export."""
    how = [options.ipc, options.epochs, options.image_format, options.shard_bytes]
    relabel = read_manifest(source.store, stage_folder("relabel"))
    labels = [shard.sha256 for shard in relabel.shards] if relabel and about["labels"] else []
    return digest_of([about, how, [shard.sha256 for shard in source.manifest.shards], labels])


def _about_images(source: ImagesToExport, facts: dict[str, Any]) -> dict[str, Any]:
    shard = source.manifest.shards[0]
    url = source.store.join(join_path(source.folder, shard.path))
    first = table_from_bytes(read_shard(source.store, source.folder, shard), url=url).slice(0, 1)
    _, channels, size, _ = read_images_table(first, url=url).images.shape
    meta = source.manifest.meta
    return {
        "number": len(source.hashes), "ipc": source.ipc, "size": size, "channels": channels,
        "mean": meta.get("mean"), "std": meta.get("std"),
        "whole": source.whole and (facts.get("images") or {}).get("whole", True),
        "pixels": digest_of([[*slot, sha] for slot, sha in sorted(source.hashes.items())]),
    }  # fmt: skip


def _labels(url: str | Store, options: ExportOptions) -> dict[str, Any] | None:
    if "labels" not in parts_to_export(url, options):
        return None
    store, _, manifest = open_stage(url, None, "relabel")
    refuse_no_labels(store, manifest)
    records = records_of_epochs(store.url, manifest, options.epochs)
    last = records[-1].meta["epochs"][1] + 1
    epochs = min(last, options.epochs or last)
    return {"epochs": epochs, "codec": manifest.meta.get("codec", "fp16")}
