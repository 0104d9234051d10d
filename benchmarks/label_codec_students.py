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

from edc_ray.artifacts.proof.manifest import read_manifest
from edc_ray.artifacts.storage.layout import RUN_CONFIG, join_path, stage_folder
from edc_ray.artifacts.storage.store import open_store
from edc_ray.config.load import load_yaml, with_fields
from edc_ray.config.run import RunConfig
from edc_ray.data.real.sources import OpenedDataset, open_dataset
from edc_ray.sharing.compress import compress_run
from edc_ray.stages.evaluate.stage import plan, train_student
from edc_ray.stages.units.context import StageContext


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
        {"evaluate.rows": ["condensed"], "evaluate.seeds": seeds, "relabel.labels": "stored"} | fields,
    )
    data = open_dataset(config.dataset, config.seed)
    lines = results.read_text().splitlines() if results.exists() else []
    done = [json.loads(line) for line in lines]
    known = {(one["way"], one["student"], one["seed"]) for one in done}
    for seed in range(seeds):  # the first seed of every way comes first, so an early look is fair
        for way in ways:
            wanted = {(str(way), student, seed) for student in config.evaluate.students}
            if wanted <= known:
                continue
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
    """Mean, sample standard deviation and n of each way; bytes and differences against the first way.

    A difference is that between students of the same seed.
    """
    rows: list[dict[str, Any]] = []
    of_ways = {str(way): [line for line in lines if line["way"] == str(way)] for way in ways}
    present = {name: of_way for name, of_way in of_ways.items() if of_way}
    first = next(iter(present.values()))
    reference = {(line["student"], line["seed"]): line["top1"] for line in first}
    for name, of_way in present.items():
        top1 = [line["top1"] for line in of_way]
        pairs = [(line["top1"], reference.get((line["student"], line["seed"]))) for line in of_way]
        lost = [one - other for one, other in pairs if other is not None]
        codec_factor = _per_label(first[0], "logit_bytes") / _per_label(of_way[0], "logit_bytes")
        pruning_factor = first[0]["stored_epochs"] / of_way[0]["stored_epochs"]
        rows.append(
            {
                "way": name, "n": len(top1), "top1_mean": statistics.mean(top1), "top1_std": _deviation(top1),
                "top1": top1, "difference_n": len(lost), "difference_mean": statistics.mean(lost),
                "difference_std": _deviation(lost), "stored_epochs": of_way[0]["stored_epochs"],
                "logit_bytes_per_label": _per_label(of_way[0], "logit_bytes"),
                "view_bytes_per_label": _per_label(of_way[0], "view_bytes"),
                "codec_factor": codec_factor, "pruning_factor": pruning_factor,
                "factor_of_logits": codec_factor * pruning_factor,
                "factor_of_files": of_way[0]["source_file_bytes"] / of_way[0]["file_bytes"],
            }
        )  # fmt: skip
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The summary as a table."""
    titles = (
        "labels", "stored epochs", "n", "top-1 (%)", "against the first, same seeds", "logits, B a label",
        "view, B a label", "codec", "pruning", "logits in all", "files in all",
    )  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", "| " + " | ".join(["---"] * len(titles)) + " |"]
    for row in rows:
        cells = (
            row["way"], row["stored_epochs"], row["n"], _with_deviation(row["top1_mean"], row["top1_std"]),
            _with_deviation(row["difference_mean"], row["difference_std"]),
            f"{row['logit_bytes_per_label']:.2f}", f"{row['view_bytes_per_label']:.2f}",
            *(f"{row[name]:.1f}x" for name in (
                "codec_factor", "pruning_factor", "factor_of_logits", "factor_of_files"
            )),
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _per_label(line: dict[str, Any], name: str) -> float:
    return line[name] / line["labels"]


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _with_deviation(mean: float, deviation: float | None) -> str:
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


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
    folder = stage_folder("relabel")
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
