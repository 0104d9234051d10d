"""Choosing the parts of a run that an export holds, and how many of its labels."""

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


def parts_to_export(url: str | Store, options: ExportOptions) -> list[Part]:
    """The parts that the options name, or all that the run has and the format can hold.

    Raises:
        ArtifactError: there are none.
        ConfigError: the options name labels that do not belong to the exported images.
    """
    source = _opened(url)
    without = _why_without_labels(url, options)
    if options.parts:
        if without is not None and "labels" in options.parts:
            raise ConfigError(
                "labels belong to all images of a set, exactly as they were labelled",
                found=f"--only labels with {without}",
                next=f"leave one of them out, or label the chosen images in another run: "
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


def labels_left_out(url: str | Store, options: ExportOptions) -> str | None:
    """The option that leaves out a run's labels; None if none does, or if there are no labels."""
    if options.parts or "labels" not in options.possible_parts:
        return None
    has_labels = _has_results(_opened(url), "labels")
    return _why_without_labels(url, options) if has_labels else None


def _opened(url: str | Store) -> Store:
    return url if isinstance(url, Store) else open_store(url, writable=False)


def _why_without_labels(url: str | Store, options: ExportOptions) -> str | None:
    """The option with which labels do not fit: views mix images of the whole set, with their exact pixels."""
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


def refuse_no_results(url: str | Store, part: Part) -> None:
    """Refuse by an ArtifactError a stage that is not complete, or has no content because none was needed."""
    store, _, manifest = open_stage(url, None, STAGE_OF[part])
    if part == "labels":
        refuse_no_labels(store, manifest)
    if not manifest.records:
        raise ArtifactError(
            f"{store.url} holds no {part}",
            found=f"stage {STAGE_OF[part]} is complete but empty, as with recover.enabled=false",
            next=f"leave {part} out of --only",
        )
    if BUFFERS_ONLY in manifest.meta:
        raise ArtifactError(
            f"{store.url} holds no {part} of the official programs' kind",
            found="running estimates of BatchNorms, which are in the observers' weights",
            next=f"leave {part} out of --only, or export a run whose recover.layers have conv",
        )


def records_of_epochs(url: str, manifest: Manifest, epochs: int | None) -> list[Record]:
    """The units that hold the first `epochs` of labels, in order; a ConfigError if fewer are stored."""
    records = sorted(manifest.records, key=lambda record: record.meta["epochs"])
    stored = records[-1].meta["epochs"][1] + 1
    if epochs is not None and epochs > stored:
        raise ConfigError(
            f"{url} holds labels of fewer epochs",
            found=f"{stored} epochs",
            expected=f"--epochs of at most {stored}",
            next="leave --epochs out, or raise relabel.epochs and rerun, which makes only the missing epochs",
        )
    return [record for record in records if epochs is None or record.meta["epochs"][0] < epochs]
