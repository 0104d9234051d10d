"""A whole recipe as a run has it, stage by stage: seconds, images a second, the table of results.

    python benchmarks/bench_recipe.py [--recipe cifar10] [--set FIELD=VALUE ...] [--folder FOLDER] [--json]

Without `--set dataset.train=URL` and `dataset.val=URL` the images are made here, as many and as large as
those of the recipe: the time is the same, the accuracies mean nothing and are not shown. Units run in this
process, without Ray. With `--folder` the next call goes on with what the last one left; the seconds of a
stage are then those of its units.

The object is printed, and recorded, after every stage, so an interrupted call leaves what is known; it has
complete (bool), stages -> seconds, units, images, images_per_s, and rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import base_parser, print_facts, print_json, print_note, print_table, provenance
from made_images import SOURCE, sizes

from edc_ray.config.load import load_recipe
from edc_ray.config.run import STAGE_NAMES, RunConfig
from edc_ray.report.run_report import result_rows
from edc_ray.runs.open_run import open_inputs, open_run
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.event_log import EventLog, read_events


def config_of(recipe: str, fields: Sequence[str], folder: str, device: str, *, compile: str) -> RunConfig:
    """The recipe as it stands, with the fields of the command line."""
    own = [f"storage.root={folder}", "cluster.address=none", f"device={device}", f"compile={compile}"]
    given = {field.partition("=")[0] for field in fields}
    if "dataset.train" not in given:
        own += [f"dataset.train={SOURCE}", f"dataset.val={SOURCE}", "dataset.allow_weak_observers=true"]
    return load_recipe(recipe, [*own, *fields])


def figures(context: StageContext) -> dict[str, dict[str, Any]]:
    """Seconds and images of each stage that has a unit, from the run's own log."""
    found: dict[str, dict[str, Any]] = {}
    for event in read_events(context.store):
        if event["event"] != "unit_done":
            continue
        row = found.setdefault(event["stage"], {"seconds": 0.0, "units": 0, "images": 0})
        row["units"] += 1
        row["seconds"] += event["seconds"]
        row["images"] += event["images"]
    for event in read_events(context.store):
        # Of a stage that one call made, the time from begin to end: units may overlap.
        if event["event"] == "stage_done" and event["units_reused"] == 0:
            found[event["stage"]]["seconds"] = event["seconds"]
    for row in found.values():
        row["seconds"] = round(row["seconds"], 3)
        row["images_per_s"] = round(row["images"] / max(row["seconds"], 1e-9), 1)
    return found


def main() -> None:
    parser = base_parser(__doc__)
    parser.add_argument("--recipe", default="cifar10")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", dest="fields")
    parser.add_argument("--folder", help="of the run; by default a new one, which is deleted")
    parser.add_argument("--compile", default="auto")
    parser.set_short(
        fields=[
            "squeeze.observers=[convnet_d1]", "squeeze.epochs=1", "recover.iterations=2", "relabel.epochs=2",
            "evaluate.students=[convnet_d1]", "evaluate.seeds=1", "ipc=1", "init.images_per_class=4",
        ],
    )  # fmt: skip
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(Path(options.folder or temporary).absolute())
        config = config_of(
            options.recipe, options.fields, folder, options.device.type, compile=options.compile
        )
        sizes.classes, sizes.image_size = config.dataset.num_classes or 10, config.dataset.image_size or 32
        if options.short:
            sizes.counts = {"train": 400, "val": 100}
        inputs = open_inputs(config)
        context = open_run(inputs, options.device)
        log = EventLog(context.store)
        facts = {**provenance(options.device), "precision": context.config.precision}
        facts |= {"recipe": options.recipe, "made_images": config.dataset.train == SOURCE}
        print_facts(facts)
        for stage in STAGE_NAMES:
            run_pipeline(context, [stage], on_event=log)
            log.write()
            tell(context, facts, complete=stage == STAGE_NAMES[-1])


def tell(context: StageContext, facts: dict[str, Any], *, complete: bool) -> None:
    """What is known after a stage."""
    stages = figures(context)
    columns = ("seconds", "units", "images", "images_per_s")
    print_table(
        ["stage", *columns], [[name, *(row[each] for each in columns)] for name, row in stages.items()]
    )
    rows: list[dict[str, Any]] = []
    if complete and not facts["made_images"]:
        rows = [
            {name: getattr(row, name) for name in ("row", "student", "n", "top1_mean", "top1_std")}
            for row in result_rows(context.store)
        ]
        for row in rows:
            print_note(f"{row['row']}, {row['student']}, n={row['n']}: top-1 {row['top1_mean']:.2f}")
    total = round(sum(row["seconds"] for row in stages.values()), 3)
    print_json({**facts, "complete": complete, "stages": stages, "total_s": total, "rows": rows})


if __name__ == "__main__":
    main()
