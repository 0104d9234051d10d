"""What a set that is given away was made of and how: the facts of edc_ray.json and of its card.

Nothing secret and no path of the machine: of the config only what determines results, of files only hashes.
"""

from __future__ import annotations

import json
from typing import Any

from edc_ray import __version__
from edc_ray.artifacts.codec import table_from_bytes
from edc_ray.artifacts.layout import RUN_CONFIG, RUN_DATA, STAGE_FOLDERS, join_path
from edc_ray.artifacts.limits import MAX_CONFIG_BYTES
from edc_ray.artifacts.manifest import read_manifest, read_shard
from edc_ray.artifacts.schema import read_images_table
from edc_ray.artifacts.store import Store
from edc_ray.config.run import RunConfig, digest_of
from edc_ray.stages.export_images import ImagesToExport
from edc_ray.stages.export_options import ExportOptions
from edc_ray.stages.stored_runs import stored_config

ABOUT_VERSION = 1
_SOURCES = ("statistics", "init", "relabel")
_PLACES = {"train", "val", "cache", "download"}
_SECTIONS = ("squeeze", "statistics", "init", "recover", "relabel", "evaluate")


def about_export(
    source: ImagesToExport, labels: dict[str, Any] | None, options: ExportOptions
) -> dict[str, Any]:
    """The facts, as JSON values.

    Args:
        source: the images.
        labels: of the exported labels: epochs, codec; None where there are none.
        options: of the export.
    """
    store, manifest = source.store, source.manifest
    return {
        "format": options.format,
        "version": ABOUT_VERSION,
        "exported_by": f"edc-ray {__version__}",
        "license": options.license,
        "dataset": manifest.dataset,
        "images": _about_images(source),
        "labels": labels,
        **_about_config(store),
        "data": _json_file(store, RUN_DATA),
        "observers": _observers(store),
        "made_by": _environments(store) or {manifest.stage: manifest.environment},
        "results": _results(store),
    }


def export_fingerprint(about: dict[str, Any], source: ImagesToExport, options: ExportOptions) -> str:
    """Hash of all that determines the bytes of an export."""
    how = [options.ipc, options.epochs, options.image_format, options.shard_bytes]
    relabel = read_manifest(source.store, STAGE_FOLDERS["relabel"])
    labels = [shard.sha256 for shard in relabel.shards] if relabel and about["labels"] else []
    return digest_of([about, how, [shard.sha256 for shard in source.manifest.shards], labels])


def _about_images(source: ImagesToExport) -> dict[str, Any]:
    record = next(record for record in source.manifest.records if record.shards)
    url = source.store.join(join_path(source.folder, record.shards[0].path))
    first = table_from_bytes(read_shard(source.store, source.folder, record.shards[0]), url=url).slice(0, 1)
    _, channels, size, _ = read_images_table(first, url=url).images.shape
    meta = source.manifest.meta
    return {
        "number": len(source.hashes), "ipc": source.ipc, "size": size, "channels": channels,
        "mean": meta.get("mean"), "std": meta.get("std"), "whole": source.whole,
        "pixels": digest_of([[*slot, sha] for slot, sha in sorted(source.hashes.items())]),
    }  # fmt: skip


def _about_config(store: Store) -> dict[str, Any]:
    if not store.exists(RUN_CONFIG):
        return {"method": None, "seed": None, "config": None}
    config = stored_config(store)
    return {"method": config.method, "seed": config.seed, "config": _shown(config)}


def _shown(config: RunConfig) -> dict[str, Any]:
    """The settings that determine results; of files and other runs, no place."""
    tree = config.model_dump(mode="json")
    shown = {name: tree[name] for name in ("ipc", "device", "precision", "deterministic", *_SECTIONS)}
    shown["dataset"] = {name: value for name, value in tree["dataset"].items() if name not in _PLACES}
    shown["cluster"] = {"threads_per_unit": config.cluster.threads_per_unit}
    shown["squeeze"]["weights"] = {
        name: source if isinstance(source, str) else {"sha256": source.sha256}
        for name, source in config.squeeze.weights.items()
    }
    for section in _SOURCES:
        shown[section]["source"] = shown[section]["source"] is not None
    return shown


def _observers(store: Store) -> dict[str, Any]:
    """Hash of the weights of each observer, and its accuracy on validation images in percent."""
    manifest = read_manifest(store, STAGE_FOLDERS["squeeze"])
    return {
        record.meta["observer"]: {"sha256": shard.sha256, "top1": record.meta.get("top1")}
        for record in (manifest.records if manifest else ())
        for shard in record.shards
    }


def _environments(store: Store) -> dict[str, Any]:
    manifests = {stage: read_manifest(store, folder) for stage, folder in STAGE_FOLDERS.items()}
    return {stage: manifest.environment for stage, manifest in manifests.items() if manifest is not None}


def _results(store: Store) -> dict[str, Any] | None:
    manifest = read_manifest(store, STAGE_FOLDERS["evaluate"])
    if manifest is None:
        return None
    return {
        "students": manifest.meta["results"],
        "full_cited": manifest.meta.get("full_cited"),
        "hardware": manifest.environment.get("hardware"),
    }


def _json_file(store: Store, path: str) -> Any:
    return json.loads(store.read(path, limit=MAX_CONFIG_BYTES)) if store.exists(path) else None
