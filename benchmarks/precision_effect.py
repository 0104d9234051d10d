"""What `precision` and `compile` do to images, labels and students, and what they cost.

    python benchmarks/precision_effect.py [--record NAME] [section.field=value ...]

It asks two questions of every variant (precision:compile), on the digits that come with scikit-learn:

- a stage alone: recover and relabel, from the same stored observers, statistics and images as float32. It
  compares images in grey levels and labels as logits.
- the whole run in its own precision: students' accuracy, with the same seeds, and seconds of every stage.

Seconds are processor time, with that of the compilers called, so that other programs do not count. If two
variants differ by no more than the standard deviation, neither is better.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # the compiler's seconds are this process's

import numpy as np
import torch
import yaml
from harness import print_json, print_table, provenance

from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.schema import read_images_table
from edc_ray.config.load import load_recipe, with_fields
from edc_ray.config.run import STAGE_NAMES, RunConfig, StageName
from edc_ray.data.condensed.label_rows import decoded_label_rows
from edc_ray.runs.open_run import open_inputs, open_run
from edc_ray.stages.pipeline import STAGES, run_pipeline
from edc_ray.stages.units.completeness import planned_units
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.numerics import unit_numerics

HEADER = (
    "way", "images mean", "p99", "max", "logits mean", "max", "same top-1", "condensed", "random",
    "recover s", "again s", "run s",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results"
BASE = "float32:none"
WAYS = (BASE, "bfloat16:none", "float32:default", "float16:none", "bfloat16:default")
REDUCED: dict[str, Any] = {
    "cluster.address": "none", "ipc": 2, "squeeze.epochs": 2, "recover.iterations": 40,
    "relabel.epochs": 100, "evaluate.rows": ["condensed", "random"], "evaluate.seeds": 3,
}  # fmt: skip
"""Of the recipe `digits`."""


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    changed = REDUCED | {
        name: yaml.safe_load(value) for name, value in (each.split("=", 1) for each in options.fields)
    }
    record: dict[str, Any] = {
        "bench": "precision_effect",
        "recipe": "digits",
        "fields": changed,
        "note": options.note,
        "ways": {},
        **provenance(options.device),
    }
    with tempfile.TemporaryDirectory(prefix="precision-effect-") as root:
        base: StageContext | None = None
        for way in options.ways:
            context, found = _whole_run(way, changed, root, options.device)
            base = base or context
            record["ways"][way] = found | {"alone": _alone(base, context.config)}
            if options.record:  # after each variant, so that the first can be read before the last ends
                (RESULTS / f"{options.record}.json").write_text(json.dumps(record, indent=1) + "\n")
                (RESULTS / f"{options.record}.md").write_text(_page(record))
    print_table(HEADER, _rows(record))
    if options.json:
        print_json(record)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fields", nargs="*", help="section.field=value, changing the reduced recipe")
    parser.add_argument("--ways", nargs="+", default=WAYS, help=f"precision:compile; {BASE} comes first")
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--record", help="name of the files in benchmarks/results")
    parser.add_argument("--note", default="", help="what a reader of the record must know of how it was made")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line of the output")
    options = parser.parse_args()
    if options.ways[0] != BASE:
        parser.error(f"--ways begins with {BASE}, against which the others are held")
    return options


def _config(way: str, fields: dict[str, Any], root: str) -> RunConfig:
    precision, compile = way.split(":")
    own = {
        "precision": precision, "compile": compile, "storage.root": root, "run.name": way.replace(":", "-"),
    }  # fmt: skip
    return with_fields(load_recipe("digits"), fields | own)


def _whole_run(
    way: str, fields: dict[str, Any], root: str, device: torch.device
) -> tuple[StageContext, dict[str, Any]]:
    """Runs the pipeline; accuracies by row, and processor seconds by stage."""
    context = open_run(open_inputs(_config(way, fields, root)), device)
    seconds: dict[StageName, float] = {}
    for stage in STAGE_NAMES:
        begun = _processor_seconds()
        run_pipeline(context, [stage])
        seconds[stage] = round(_processor_seconds() - begun, 2)
        print(f"{way}: {stage} {seconds[stage]:.1f} s", flush=True)
    squeeze, evaluate = (context.manifest(stage) for stage in ("squeeze", "evaluate"))
    rows: dict[str, list[float]] = {}
    for result in evaluate.meta["results"]:
        rows.setdefault(result["row"], []).append(result["top1"])
    return context, {
        "seconds": seconds,
        "observers": squeeze.meta["observers"],
        "students": {
            row: {"n": len(top1), "mean": statistics.mean(top1), "std": statistics.stdev(top1), "top1": top1}
            for row, top1 in rows.items()
        },
    }


def _processor_seconds() -> float:
    """Of this process and of those it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _alone(base: StageContext, way: RunConfig) -> dict[str, Any]:
    """How much a stage's results differ in another variant from the same inputs; its processor seconds."""
    config = base.config.model_copy(update={"precision": way.precision, "compile": way.compile})
    there = StageContext(config, base.store, base.data, base.device)
    found: dict[str, Any] = {}
    read_by: dict[StageName, Callable[[bytes], np.ndarray]] = {"recover": _images, "relabel": _logits}
    for stage, read in read_by.items():
        begun = _processor_seconds()
        shards = _outputs(there, stage)
        seconds = _processor_seconds() - begun
        # A second time, with everything compiled.
        begun = _processor_seconds()
        _outputs(there, stage)
        again = _processor_seconds() - begun
        ours = np.concatenate([read(data) for data in shards])
        theirs = np.concatenate([read(data) for data in _outputs(base, stage)])
        off = np.abs(ours - theirs)
        found[stage] = {
            "mean": float(off.mean()), "p99": float(np.quantile(off, 0.99)), "max": float(off.max()),
            "spread": float(theirs.std()), "first_s": round(seconds, 2), "again_s": round(again, 2),
        }  # fmt: skip
        if stage == "relabel":
            found[stage]["same_top1"] = float((ours.argmax(1) == theirs.argmax(1)).mean())
    return found


def _outputs(context: StageContext, stage: StageName) -> list[bytes]:
    """What each unit of a stage makes, from the stored inputs. Nothing is stored."""
    shards = []
    for unit in planned_units(context, STAGES[stage]):
        with unit_numerics(context.config, context.device):
            output = STAGES[stage].run_unit(context, unit)
        shards += [data for _, (data, _) in sorted(output.shards.items())]
    return shards


def _images(data: bytes) -> np.ndarray:
    return read_images_table(table_from_bytes(data, url="images")).images.astype(np.float64)


def _logits(data: bytes) -> np.ndarray:
    return decoded_label_rows(table_from_bytes(data, url="labels")).logits.astype(np.float64)


def _rows(record: dict[str, Any]) -> list[list[object]]:
    rows = []
    for way, found in record["ways"].items():
        images, labels = found["alone"]["recover"], found["alone"]["relabel"]
        students = [f"{one['mean']:.2f} ± {one['std']:.2f}" for one in found["students"].values()]
        differences = [images["mean"], images["p99"], images["max"], labels["mean"], labels["max"]]
        seconds = [images["first_s"], images["again_s"], sum(found["seconds"].values())]
        rows.append([way, *differences, labels["same_top1"], *students, *seconds])
    return rows


def _page(record: dict[str, Any]) -> str:
    """The record for people."""
    lines = [[*HEADER], ["---"] * len(HEADER), *([_cell(cell) for cell in row] for row in _rows(record))]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    stages = [["way", *STAGE_NAMES], ["---"] * (1 + len(STAGE_NAMES))]
    stages += [
        [way, *(_cell(found["seconds"][stage]) for stage in STAGE_NAMES)]
        for way, found in record["ways"].items()
    ]
    times = "\n".join(f"| {' | '.join(line)} |" for line in stages)
    base = record["ways"][BASE]
    alone, n = base["alone"], base["students"]["condensed"]["n"]
    fields = " ".join(f"{name}={json.dumps(value)}" for name, value in record["fields"].items())
    note = f"{record['note']}\n\n" if record["note"] else ""
    return (
        "# Precision and compile: what they change\n\n"
        f"Commit {record['commit']}, {record['hardware']}, {record['threads']} threads, torch "
        f"{record['torch']}. Recipe `digits` with `{fields}`.\n\n{note}"
        f"{table}\n\n"
        "Images and logits: difference from float32 where recover and relabel alone work in another way, "
        "from the same observers, statistics and images; images in grey levels (their standard deviation is "
        f"{alone['recover']['spread']:.0f}), logits as stored in half precision (standard deviation "
        f"{alone['relabel']['spread']:.1f}). Students: the whole run in its own precision, top-1 on real "
        f"validation images, mean ± standard deviation of n = {n} seeds, the same for every way. Seconds are "
        "the processor's: recover the first time (compiler included) and again, and the whole run.\n\n"
        f"## Processor seconds of the whole run\n\n{times}\n"
    )


def _cell(cell: object) -> str:
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


if __name__ == "__main__":
    main()
