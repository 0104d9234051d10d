"""What the results of a stage depend on, and its hash: the same fingerprint, the same results.

It covers the sections of the stage and of all that it builds on, the versions of their code, and what every
number depends on: seed, device, precision, threads of a unit, the images' form. It does not cover places and
the number of actors. What a unit reads (weights, images, labels) is in the unit's own fingerprint.
"""

from __future__ import annotations

from typing import Any

from edc_ray.config.history import ABSENT_VALUES, first_name
from edc_ray.config.run import STAGE_NAMES, RunConfig
from edc_ray.digests import digest_of
from edc_ray.stages.units.plan import Stage

# Where the pixels come from. The hash of their content says what they are.
DATASET_LOCATION = {
    "name", "train", "val", "val_fraction", "max_per_class", "max_val_per_class", "download", "cache",
    "allow_weak_observers", "image_column", "label_column", "repeated_names", "transparency", "on_bad_image",
    "max_bad_images",
}  # fmt: skip


def stage_fingerprint(config: RunConfig, stage: Stage) -> str:
    """Hash of `stage_inputs`: 16 hexadecimal digits."""
    return digest_of(stage_inputs(config, stage))


def stage_inputs(config: RunConfig, stage: Stage) -> dict[str, Any]:
    """All of a config that changes the results of a stage, as flat `section.field -> JSON value`."""
    fields: dict[str, Any] = config.model_dump(include={"seed", "device", "precision", "deterministic"})
    fields["cluster.threads_per_unit"] = config.cluster.threads_per_unit
    fields["code_version"] = [one.version for one in stage.lineage]
    for name, value in config.dataset.model_dump(mode="json").items():
        if name not in DATASET_LOCATION:
            fields[f"dataset.{name}"] = value
    for one in stage.lineage:
        fields |= _section_inputs(config, one)
    # A captured iteration calls the same functions as one that is not.
    fields["compile"] = "none" if config.compile == "auto" else config.compile
    if stage.ipc_matters(config):
        fields["ipc"] = config.ipc
    # As runs of every release have them: see `edc_ray.config.history`.
    absent = ABSENT_VALUES.items()
    named = {first_name(name): value for name, value in fields.items() if (name, value) not in absent}
    # A field that moved to an earlier stage counts from its first stage on.
    later = set(STAGE_NAMES) - {one.name for one in stage.lineage}
    return {
        name: value
        for name, value in named.items()
        if name.partition(".")[0] not in later and name not in stage.growing
    }


def _section_inputs(config: RunConfig, stage: Stage) -> dict[str, Any]:
    section = getattr(config, stage.name)
    fields: dict[str, Any] = section.model_dump(mode="json")
    if "source" in fields:  # the units' fingerprints have its content
        fields["source"] = fields["source"] is not None
    if "observers" in fields:
        fields["observers"] = list(section.observers or config.squeeze.observers)
    named = {f"{stage.name}.{name}": value for name, value in fields.items()}
    return {name: value for name, value in named.items() if name not in stage.choices_of_units}
