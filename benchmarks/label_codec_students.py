"""Students on the labels of a finished run, stored in other ways: what a codec costs in accuracy.

Each way is (codec, stored epochs); a student trains for as many epochs as the run's own, whatever is stored.
Only the labels differ: images, recipe and seeds are the run's. One line of JSON is appended for each finished
student, and students that a line names are not trained again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from edc_ray.artifacts.layout import RUN_CONFIG, STAGE_FOLDERS, join_path
from edc_ray.artifacts.manifest import read_manifest
from edc_ray.artifacts.store import open_store
from edc_ray.config.load import load_yaml, with_fields
from edc_ray.config.run import RunConfig
from edc_ray.data.sources import OpenedDataset, open_dataset
from edc_ray.stages.compress_labels import compress_run
from edc_ray.stages.context import StageContext
from edc_ray.stages.evaluate import plan, train_student


@dataclass(frozen=True)
class Way:
    """How labels are stored: a codec, and so many of the run's epochs (None: all)."""

    codec: str
    epochs: int | None = None

    @staticmethod
    def parsed(text: str) -> Way:
        """`pca32` or `pca32:75`."""
        codec, _, epochs = text.partition(":")
        return Way(codec, int(epochs) if epochs else None)

    def __str__(self) -> str:
        return self.codec if self.epochs is None else f"{self.codec}:{self.epochs}"


def train_students(
    url: str, ways: Sequence[Way], results: Path, scratch: str, *, seeds: int, fields: dict[str, Any]
) -> list[dict[str, Any]]:
    """Train the run's students on its condensed images, with the labels stored in each of several ways.

    Args:
        url: of a finished run.
        ways: how labels are stored.
        results: file of JSON lines; read, and appended to.
        scratch: folder for the re-encoded copies.
        seeds: students of each way.
        fields: further fields of the run's config, such as where its images lie now.

    Returns:
        A dict for each student, in the order in which they were trained.
    """
    store = open_store(url, writable=False)
    config = load_yaml(store.read(RUN_CONFIG).decode(), source=url)
    config = with_fields(
        config,
        {"evaluate.rows": ["condensed"], "evaluate.seeds": seeds, "evaluate.labels": "stored"} | fields,
    )
    data = open_dataset(config.dataset, config.seed)
    lines = results.read_text().splitlines() if results.exists() else []
    done = [json.loads(line) for line in lines]
    known = {(one["way"], one["student"], one["seed"]) for one in done}
    for seed in range(seeds):  # the first seed of every way first: an early look is a fair one
        for way in ways:
            context = _context(config, data, url, way, scratch)
            for unit in plan(context):
                key = (str(way), unit.work["student"], seed)
                if unit.work["seed"] != seed or key in known:
                    continue
                result = train_student(context, unit).meta["result"]
                line = {"way": str(way), **result, **_sizes(context)}
                with results.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)
                done.append(line)
    return done


def summary(lines: Sequence[dict[str, Any]], ways: Sequence[Way]) -> list[dict[str, Any]]:
    """Mean, sample standard deviation and n of each way, with its bytes and factors against the first way."""
    rows: list[dict[str, Any]] = []
    for way in ways:
        of_way = [line for line in lines if line["way"] == str(way)]
        if not of_way:
            continue
        top1 = [line["top1"] for line in of_way]
        one = of_way[0]
        first = rows[0] if rows else one
        rows.append(
            {
                "way": str(way), "n": len(top1), "top1_mean": statistics.mean(top1),
                "top1_std": statistics.stdev(top1) if len(top1) > 1 else None, "top1": top1,
                "stored_epochs": one["stored_epochs"], "labels": one["labels"],
                "logit_bytes_per_label": one["logit_bytes"] / one["labels"],
                "view_bytes_per_label": one["view_bytes"] / one["labels"],
                "codec_factor": first["labels"] and (
                    first.get("logit_bytes_per_label", one["logit_bytes"] / one["labels"])
                    / (one["logit_bytes"] / one["labels"])
                ),
                "pruning_factor": first["stored_epochs"] / one["stored_epochs"],
                "file_bytes": one["file_bytes"], "source_file_bytes": one["source_file_bytes"],
            }
        )  # fmt: skip
    for row in rows:
        row["factor_of_logits"] = row["codec_factor"] * row["pruning_factor"]
        row["factor_of_files"] = row["source_file_bytes"] / row["file_bytes"]
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The summary as a table."""
    head = (
        "| labels | stored epochs | n | top-1 (%) | logits, B a label | view, B a label | codec | pruning | "
        "logits in all | files in all |\n| " + " | ".join(["---"] * 10) + " |"
    )
    lines = [
        f"| {row['way']} | {row['stored_epochs']} | {row['n']} | {row['top1_mean']:.2f}"
        + (f" ± {row['top1_std']:.2f}" if row["top1_std"] is not None else "")
        + f" | {row['logit_bytes_per_label']:.2f} | {row['view_bytes_per_label']:.2f} | "
        f"{row['codec_factor']:.2f}x | {row['pruning_factor']:.2f}x | {row['factor_of_logits']:.1f}x | "
        f"{row['factor_of_files']:.1f}x |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def _context(config: RunConfig, data: OpenedDataset, url: str, way: Way, scratch: str) -> StageContext:
    name = str(way).replace(":", "-e")
    dest = f"{scratch}/{name}"
    compress_run(url, dest, codec=way.codec, keep_epochs=way.epochs)
    stored = way.epochs or config.relabel.epochs
    chosen = with_fields(
        config.model_copy(update={"dataset": data.spec}),
        {
            "storage.root": scratch, "run.name": name, "relabel.epochs": stored, "relabel.codec": way.codec,
            "evaluate.epochs": config.training_epochs,
        },
    )  # fmt: skip
    return StageContext(chosen, open_store(dest), data, torch.device("cpu"))


def _sizes(context: StageContext) -> dict[str, int]:
    """Bytes as Parquet keeps them: of the columns of the logits, of the others, of the files."""
    folder = STAGE_FOLDERS["relabel"]
    manifest = read_manifest(context.store, folder)
    assert manifest is not None
    logits = views = 0
    for shard in manifest.shards:
        data = context.store.read(join_path(folder, shard.path))
        facts = pq.ParquetFile(pa.BufferReader(data)).metadata
        for group in range(facts.num_row_groups):
            for column in range(facts.num_columns):
                chunk = facts.row_group(group).column(column)
                is_logits = chunk.path_in_schema.startswith("logits")
                logits += chunk.total_compressed_size if is_logits else 0
                views += 0 if is_logits else chunk.total_compressed_size
    return {
        "labels": sum(shard.rows for shard in manifest.shards), "stored_epochs": manifest.meta["epochs"],
        "logit_bytes": logits, "view_bytes": views, "file_bytes": manifest.meta["bytes"],
        "source_file_bytes": manifest.meta["source"]["bytes"],
    }  # fmt: skip
