"""A copy of a condensed set with its soft labels in another codec: `edc-ray compress`.

The copy holds the same images and the labels, proven by manifests, so `edc_ray.data.condensed`,
`edc-ray verify` and `export` read it like a run, and another run can name it in init.source and
relabel.source. An interrupted call resumes: it keeps whole units and writes the manifest of the labels last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from edc_ray.artifacts.proof.manifest import copy_units, read_record, write_manifest, write_unit
from edc_ray.artifacts.proof.records import Manifest, Record, parse_record
from edc_ray.artifacts.storage.layout import epochs_key, records_folder, stage_folder, table_name
from edc_ray.artifacts.storage.limits import MAX_JSON_BYTES
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import LabelRows
from edc_ray.config.run import StageName
from edc_ray.core.labels.specification import label_codec
from edc_ray.data.condensed.images import open_stage, read_label_rows, refuse_no_labels
from edc_ray.data.condensed.label_rows import encoded_labels_table
from edc_ray.digests import digest_of
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.sharing.facts import ORIGIN, facts_of
from edc_ray.stages.units.provenance import environment_facts

UNIT_ROWS = 1 << 16
"""Labels in a table, at least, if there are so many: each table stores what its labels have in common."""
GROUP_ROWS = 1 << 14
"""Labels in a row group, at most, but always whole epochs."""


class _Opened(NamedTuple):
    """A stage: the store, its folder there and its manifest."""

    store: Store
    folder: str
    manifest: Manifest


class _Part(NamedTuple):
    """A unit to write: some records of the source, and their first and last epoch that are kept."""

    records: list[Record]
    first: int
    last: int


def compress_run(url: str | Store, dest: str | None, *, codec: str, keep_epochs: int | None = None) -> str:
    """Write a condensed set with its labels in another codec, or of fewer epochs, or both.

    Args:
        url: of a run, or of an imported or compressed set; or its store.
        dest: URL of the folder to write. Default: `url` with the codec, and the epochs, appended.
        codec: see `core.labels.specification`.
        keep_epochs: keep this many epochs, the first ones: their views are as random as any. None: all.

    Returns:
        What was written, as a sentence.

    Raises:
        ConfigError: an unknown codec, more epochs than are stored, or the folder holds something else.
        ArtifactError: there are no labels, or a file is missing or damaged.
    """
    label_codec(codec)
    images, labels = (_Opened(*open_stage(url, None, stage)) for stage in ("recover", "relabel"))
    refuse_no_labels(labels.store, labels.manifest)
    stored = _epochs(labels)
    if keep_epochs is not None and keep_epochs > stored:
        raise ConfigError(
            f"{labels.store.url} holds labels of fewer epochs",
            found=f"{stored} epochs", expected=f"--keep-epochs of at most {stored}",
        )  # fmt: skip
    kept = keep_epochs or stored
    fewer = f"-e{kept}" if kept < stored else ""
    target = _target(dest or f"{labels.store.url}-{codec}{fewer}", labels.store)
    parts = _parts(labels.manifest, kept)
    fingerprints = [_fingerprint(part, codec) for part in parts]
    _refuse_other(target, images.manifest, fingerprints)
    copied = copy_units(images.store, images.folder, images.manifest.records, target, stage_folder("recover"))
    origin = {ORIGIN: facts_of(images.store, images.manifest)}
    _finish(
        target, "recover", images.manifest, copied, images.manifest.meta | origin, images.manifest.fingerprint
    )
    records = [
        _encoded(labels, target, part, fingerprint, codec)
        for part, fingerprint in zip(parts, fingerprints, strict=True)
    ]
    before, after = _bytes(labels.manifest.records), _bytes(records)
    source = {
        "url": labels.store.url, "fingerprint": labels.manifest.fingerprint, "epochs": stored,
        "codec": labels.manifest.meta.get("codec", "fp16"), "bytes": before,
    }  # fmt: skip
    meta = labels.manifest.meta | {"codec": codec, "epochs": kept, "bytes": after, "source": source}
    _finish(target, "relabel", labels.manifest, records, meta, digest_of(fingerprints))
    count = sum(shard.rows for record in records for shard in record.shards)
    return (
        f"{target.url}: labels of {kept} of {stored} epochs as {codec}, {after} bytes instead of {before} "
        f"({before / after:.1f}x); {after / count:.1f} bytes a label with its view"
    )


def _target(dest: str, source: Store) -> Store:
    url = open_store(dest, writable=False).url
    if url == source.url or url.startswith(f"{source.url.rstrip('/')}/"):
        raise ConfigError(
            "compress writes a copy outside the folder that it reads",
            found=f"--dest {url}",
            next="give a folder outside the run's",
        )
    return open_store(dest)


def _parts(manifest: Manifest, kept: int) -> list[_Part]:
    """The units to write, in order of epochs. All but the last have at least UNIT_ROWS labels."""
    parts, taken, count = list[list[Record]](), list[Record](), 0
    for record in sorted(manifest.records, key=lambda one: one.meta["epochs"]):
        if record.meta["epochs"][0] >= kept:
            break
        taken.append(record)
        count += sum(shard.rows for shard in record.shards)
        if count >= UNIT_ROWS:
            parts.append(taken)
            taken, count = [], 0
    parts += [taken] if taken else []
    return [
        _Part(records, records[0].meta["epochs"][0], min(records[-1].meta["epochs"][1], kept - 1))
        for records in parts
    ]


def _fingerprint(part: _Part, codec: str) -> str:
    shards = [shard.sha256 for record in part.records for shard in record.shards]
    return digest_of(["compressed", codec, part.first, part.last, shards])


def _refuse_other(target: Store, images: Manifest, fingerprints: Sequence[str]) -> None:
    """Refuse a folder that holds other images or labels than a call like this one would write."""
    wanted: dict[StageName, Sequence[str]] = {
        "recover": [record.fingerprint for record in images.records],
        "relabel": fingerprints,
    }
    for stage, expected in wanted.items():
        for path in target.list(records_folder(stage_folder(stage))):
            record = parse_record(target.read(path, limit=MAX_JSON_BYTES), target.join(path))
            if record is not None and record.fingerprint not in expected:
                raise ConfigError(
                    f"{target.url} is not empty",
                    found=f"{path} of other {'images' if stage == 'recover' else 'labels'}",
                    expected="nothing, or what the same command has begun",
                    next="give another folder to write with --dest",
                )


def _encoded(labels: _Opened, target: Store, part: _Part, fingerprint: str, codec: str) -> Record:
    folder, key = stage_folder("relabel"), epochs_key(part.first, part.last)
    if held := read_record(target, folder, key, fingerprint):
        return held
    rows = LabelRows.concatenate(
        [read_label_rows(labels.store, labels.folder, record) for record in part.records]
    )
    rows = rows.take(np.flatnonzero(rows.epoch <= part.last))
    table = encoded_labels_table(
        rows, labels.manifest.dataset["class_names"], codec=codec, dataset=labels.manifest.dataset["name"]
    )
    per_epoch = len(rows) // (part.last - part.first + 1)
    data = table_to_bytes(table, rows_per_group=per_epoch * max(1, GROUP_ROWS // per_epoch))
    shards = {table_name(key): (data, len(rows))}
    return write_unit(target, folder, key, fingerprint, shards, {"epochs": [part.first, part.last]})


def _finish(
    target: Store,
    stage: StageName,
    source: Manifest,
    records: Sequence[Record],
    meta: dict[str, Any],
    fingerprint: str,
) -> None:
    write_manifest(
        target, stage_folder(stage), records, fingerprint=fingerprint, dataset=source.dataset, meta=meta,
        config_digest=source.config_digest,
        environment=source.environment if stage == "recover" else environment_facts(torch.device("cpu")),
    )  # fmt: skip


def _epochs(labels: _Opened) -> int:
    ranges = sorted(record.meta["epochs"] for record in labels.manifest.records)
    first = 0
    for begin, last in ranges:
        if begin != first:
            raise ArtifactError(
                f"{labels.store.url}: the epochs of the labels are not numbered from 0 on", found=ranges
            )
        first = last + 1
    return first


def _bytes(records: Sequence[Record]) -> int:
    return sum(shard.bytes for record in records for shard in record.shards)
