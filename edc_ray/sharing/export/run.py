"""A condensed set in a layout that others read: `edc-ray export`.

official, rded    for the programs of EDC and RDED: `export_official`
huggingface       data/*.parquet, labels/*.parquet; also read by `edc_ray.data.condensed` as it is
imagefolder       train/00000/class00000_id00000.png
webdataset        data-000000.tar

The last three have a card (README.md) and edc_ray.json, which states the hash of every file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edc_ray.artifacts.storage.store import open_store
from edc_ray.data.condensed.images import open_stage, refuse_no_labels
from edc_ray.sharing.export.about import about_export, export_fingerprint
from edc_ray.sharing.export.huggingface import write_huggingface
from edc_ray.sharing.export.images import images_to_export
from edc_ray.sharing.export.official import export_official
from edc_ray.sharing.export.options import ExportOptions, check_options
from edc_ray.sharing.export.parts import (
    labels_left_out,
    parts_to_export,
    records_of_epochs,
    told_of_labels,
)
from edc_ray.sharing.export.target import ExportTarget
from edc_ray.sharing.export.trees import write_image_tree, write_tars

Card = Callable[[dict[str, Any]], str]


def export_run(url: str, dest: str, options: ExportOptions, card: Card | None = None) -> list[str]:
    """Write a condensed set, and what belongs to it, in another layout.

    A call that was interrupted goes on where it was.

    Args:
        url: of the run, or of what was imported or compressed.
        dest: URL of the folder to write.
        options: which layout, and how.
        card: the text of README.md from the facts of edc_ray.json with its files; None writes none.

    Returns:
        A sentence for each part, and one of labels that are left out.

    Raises:
        ConfigError: an option or part that the format does not have, or the folder holds something else.
        ArtifactError: the run lacks a part, or a file is missing or damaged.
    """
    check_options(options)
    if options.format in ("official", "rded"):
        return export_official(url, dest, options)
    source = images_to_export(url, options.ipc)
    labels = _labels(url, options)
    left_out = labels_left_out(url, options)
    about = about_export(source, labels, options) | {"labels_left_out": left_out}
    target = ExportTarget(open_store(dest), export_fingerprint(about, source, options))
    target.begin()
    if options.format == "huggingface":
        write_huggingface(url, source, target, options, epochs=labels["epochs"] if labels else None)
    elif options.format == "imagefolder":
        write_image_tree(source, target, options)
    else:
        write_tars(source, target, options)
    if card is not None:
        target.put("README.md", card(about | {"files": dict(sorted(target.files.items()))}).encode())
    target.finish(about)
    told = f"{target.store.url}: {len(source.hashes)} images"
    told += f", labels of {labels['epochs']} epochs" if labels else ""
    return [told, *([told_of_labels(left_out)] if left_out else [])]


def _labels(url: str, options: ExportOptions) -> dict[str, Any] | None:
    if "labels" not in parts_to_export(url, options):
        return None
    store, _, manifest = open_stage(url, None, "relabel")
    refuse_no_labels(store, manifest)
    records = records_of_epochs(store.url, manifest, options.epochs)
    last = records[-1].meta["epochs"][1] + 1
    epochs = min(last, options.epochs or last)
    return {"epochs": epochs, "codec": manifest.meta.get("codec", "fp16")}
