"""Which parts of a run an export holds, and how much of its labels."""

from __future__ import annotations

from edc_ray.artifacts.proof.manifest import read_manifest
from edc_ray.artifacts.proof.records import Manifest, Record
from edc_ray.artifacts.storage.layout import stage_folder
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.config.run import StageName
from edc_ray.data.condensed.images import open_stage, refuse_no_labels
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.sharing.export.images import images_to_export
from edc_ray.sharing.export.options import ExportOptions, Part
from edc_ray.stages.statistics.stage import BUFFERS_ONLY

STAGE_OF: dict[Part, StageName] = {"images": "recover", "labels": "relabel", "statistics": "statistics"}


def parts_to_export(url: str, options: ExportOptions) -> list[Part]:
    """What an export holds: what is asked for, or all that there is and the format has a place for.

    Raises:
        ArtifactError: there is nothing.
        ConfigError: labels are asked for that are not those of the images that are exported.
    """
    source = open_store(url, writable=False)
    without = _why_without_labels(url, options)
    if options.parts:
        if without is not None and "labels" in options.parts:
            raise ConfigError(
                "labels go with all images of a set, as they were labelled",
                found=f"--only labels with {without}",
                next=f"leave one of them out; or make a run of other images and label those: "
                f"init.source={source.url} recover.enabled=false",
            )
        return list(options.parts)
    parts: list[Part] = [
        part
        for part in options.possible_parts
        if _has_results(source, part) and not (without and part == "labels")
    ]
    if ("images" not in parts and options.format != "official") or not parts:
        open_stage(url, None, "recover")  # says what is missing
    return parts


def labels_left_out(url: str, options: ExportOptions) -> str | None:
    """The option because of which a run's labels do not go with its images; None where they do, or where
    there are none or no place for them."""
    if options.parts or "labels" not in options.possible_parts:
        return None
    return (
        _why_without_labels(url, options) if _has_results(open_store(url, writable=False), "labels") else None
    )


def told_of_labels(option: str) -> str:
    """Why labels are left out, as a sentence."""
    return (
        f"the labels are left out, because of {option}: they belong to all images of the set, exactly as "
        "these were labelled"
    )


def _why_without_labels(url: str, options: ExportOptions) -> str | None:
    """Views mix images with others of the set, and the official student mixes files as they are."""
    if options.ipc is not None and not images_to_export(url, options.ipc).whole:
        return f"--ipc {options.ipc}"
    if options.format == "huggingface" and options.image_format == "jpeg":
        return "--image-format jpeg"
    return None


def _has_results(source: Store, part: Part) -> bool:
    stage = STAGE_OF[part]
    found = [read_manifest(source, folder) for folder in (stage_folder(stage), "")]
    return any(
        manifest is not None
        and manifest.stage == stage
        and bool(manifest.records)
        and BUFFERS_ONLY not in manifest.meta
        for manifest in found
    )


def refuse_no_results(url: str, part: Part) -> None:
    """Refuse a stage that is complete with nothing in it, because no later stage needed it.

    Raises:
        ArtifactError: it is so, or the stage is not complete.
    """
    store, _, manifest = open_stage(url, None, STAGE_OF[part])
    if part == "labels":
        refuse_no_labels(store, manifest)
    if not manifest.records:
        raise ArtifactError(
            f"{store.url} holds no {part}",
            found=f"stage {STAGE_OF[part]} is complete and made none, as with recover.enabled=false",
            next=f"leave {part} out of --only",
        )
    if BUFFERS_ONLY in manifest.meta:
        raise ArtifactError(
            f"{store.url} holds no {part} of the kind that the official programs keep",
            found="running estimates of BatchNorms, which are in the observers' weights",
            next=f"leave {part} out of --only, or export a run whose recover.layers have conv",
        )


def records_of_epochs(url: str, manifest: Manifest, epochs: int | None) -> list[Record]:
    """The units that hold the first so many epochs of labels, in order.

    Raises:
        ConfigError: there are not so many.
    """
    records = sorted(manifest.records, key=lambda record: record.meta["epochs"])
    stored = records[-1].meta["epochs"][1] + 1
    if epochs is not None and epochs > stored:
        raise ConfigError(
            f"{url} holds labels of fewer epochs than are asked for",
            found=f"{stored} epochs",
            expected=f"--epochs of at most {stored}",
            next="leave --epochs out, or raise relabel.epochs: only the missing epochs are made",
        )
    return [record for record in records if epochs is None or record.meta["epochs"][0] < epochs]
