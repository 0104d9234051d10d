"""A whole run without Ray, stage by stage, against the straightforward way: seconds, processor time, memory.

    python benchmarks/bench_pipeline.py [--recipe digits] [--set FIELD=VALUE ...] [--no-reference]

The default is small: scikit-learn's handwritten digits in colour, three small observers, ten classes, five
images each. It takes a minute for both variants; --short does a third of the iterations and epochs. --recipe
and --set choose other data and sizes (fields of the config, such as dataset.train=TRAIN.parquet). --whole
leaves the recipe as it is. A stage does what `edc-ray run` does for it without Ray, with its files. `open`
reads the data and checks the config. --precision and --compile are those of the run.

The reference does the same work with benchmarks/reference (whole_run.py), in files and on a CPU. It has no
squeeze, so it uses the observers that ours trained. It has init only for mosaics. Its images are its own,
and its networks are float32. Both variants run in turns; the minimum of the turns counts, and the ratio is
by --clock.

The JSON object holds, for each stage and as "total", wall_s, cpu_s, share (of the total, by --clock),
peak_mb (beyond what was in use before), and of the reference reference_wall_s, reference_cpu_s,
reference_peak_mb and ratio (medians of times end in _median_s). "rates" holds condensed_image_s (statistics,
init and recover for one image), recover_image_s, relabel_images_s and evaluate_images_s (views labelled, and
shown to students, per second). "accuracy" holds the accuracy of the students of both. On a GPU use --device
cuda; processor time is then that of the host only.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from harness import (
    base_parser,
    cpu_seconds,
    peak_megabytes,
    print_facts,
    print_json,
    print_medians,
    print_table,
    provenance,
)
from pipeline_reference import reference_stages
from profiled import print_profile

from edc_ray.artifacts.proof.manifest import read_manifest
from edc_ray.config.load import load_recipe
from edc_ray.config.run import STAGE_NAMES, RunConfig
from edc_ray.runs.open_run import open_inputs, open_run
from edc_ray.stages.pipeline import STAGES, run_stage
from edc_ray.stages.side_by_side.execution import execute_here
from edc_ray.stages.units.context import StageContext

REDUCED = (
    "dataset.channels=3", "dataset.max_per_class=60", "dataset.allow_weak_observers=true", "ipc=5",
    "squeeze.observers=[convnet_w32,convnet_d1,mobilenet_v2_small]", "squeeze.epochs=5",
    "statistics.batch_size=64", "init.kind=mosaic", "init.images_per_class=20", "init.crops_per_image=2",
    "recover.iterations=60", "relabel.epochs=60", "relabel.mix_group=50", "relabel.rand_augment=false",
    "evaluate.batch_size=50", "evaluate.students=[convnet_w32]", "evaluate.seeds=1",
    "evaluate.rows=[condensed]",
)  # fmt: skip
SHORTER = ("squeeze.epochs=2", "recover.iterations=20", "relabel.epochs=20")


@dataclass(frozen=True)
class Cost:
    """What one step took."""

    wall: float
    cpu: float
    peak: float | None

    @classmethod
    def of(cls, run: Callable[[], object], device: torch.device) -> Cost:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        wall, cpu = time.perf_counter(), cpu_seconds()
        peak = peak_megabytes(run, device)
        return cls(time.perf_counter() - wall, cpu_seconds() - cpu, peak)

    def by(self, clock: str) -> float:
        return self.cpu if clock == "cpu" else self.wall


Costs = dict[str, Cost]


def config_of(options: argparse.Namespace, root: Path) -> RunConfig:
    """The recipe with the fields of the command line; `root` is the folder of the run."""
    fixed = [
        f"storage.root={root}", "cluster.address=none", f"cluster.threads_per_unit={options.threads}",
        "tracking.tensorboard=false", f"precision={options.precision}", f"compile={options.compile}",
    ]  # fmt: skip
    reduced = [] if options.whole else [*REDUCED, *(SHORTER if options.short else ())]
    # The last value of a field counts, and the command line's comes last.
    chosen = {field.partition("=")[0]: field for field in [*reduced, *options.set]}
    return load_recipe(options.recipe, [*chosen.values(), *fixed])


def run_ours(
    options: argparse.Namespace, root: Path, watch: Callable[[str, Callable[[], object]], None]
) -> StageContext:
    """A whole run; `watch` is given each step's name and the step, and runs it."""
    opened: list[StageContext] = []
    watch("open", lambda: opened.append(open_run(open_inputs(config_of(options, root)), options.device)))
    (context,) = opened
    for name in STAGE_NAMES:
        watch(name, lambda name=name: run_stage(context, STAGES[name], execute_here, lambda event: None))
    return context


def one_turn(
    options: argparse.Namespace, folder: Path
) -> tuple[Costs, Costs, dict[str, float], StageContext]:
    """Ours, the reference, and the accuracy of the students of both."""
    ours: Costs = {}
    reference: Costs = {}
    context = run_ours(
        options, folder / "ours", lambda name, run: ours.update({name: Cost.of(run, options.device)})
    )
    accuracy = {"ours": accuracy_of(context)}
    if options.reference:
        for name, run in reference_stages(context, folder / "reference", accuracy):
            reference[name] = Cost.of(run, torch.device("cpu"))
    return ours, reference, accuracy, context


def accuracy_of(context: StageContext) -> float:
    """Mean top-1 of the students on the condensed set, in per cent."""
    manifest = read_manifest(context.store, "results")
    assert manifest is not None
    found = [record.meta["result"] for record in manifest.records]
    top1 = [each["top1"] for each in found if each["row"] == "condensed"]
    return sum(top1) / len(top1)


def each_of(turns: list[Costs], of: Callable[[list[float]], float]) -> Costs:
    """The minimum of each step's turns, or what else `of` makes of them, number by number."""
    found = {}
    for name in turns[0]:
        known = [peak for turn in turns if (peak := turn[name].peak) is not None]
        found[name] = Cost(
            of([turn[name].wall for turn in turns]),
            of([turn[name].cpu for turn in turns]),
            of(known) if known else None,
        )
    return found


def medians_of(prefix: str, turns: list[Costs]) -> dict[str, dict[str, float]]:
    """Fields of times that end in _median_s, for each step and for the total."""
    found = each_of(turns, statistics.median)
    walls, cpus = [each.wall for each in found.values()], [each.cpu for each in found.values()]
    found["total"] = Cost(sum(walls), sum(cpus), None)
    return {
        name: {f"{prefix}wall_median_s": cost.wall, f"{prefix}cpu_median_s": cost.cpu}
        for name, cost in found.items()
        if found.keys() > {"total"}
    }


def numbers_of(ours: Costs, reference: Costs, clock: str) -> dict[str, dict[str, float | None]]:
    """As the JSON object has them."""
    total = sum(each.by(clock) for each in ours.values())
    rows: dict[str, dict[str, float | None]] = {}
    for name, cost in ours.items():
        rows[name] = {
            "wall_s": cost.wall, "cpu_s": cost.cpu, "share": cost.by(clock) / total, "peak_mb": cost.peak,
        }  # fmt: skip
        if name in reference:
            other = reference[name]
            rows[name] |= {
                "reference_wall_s": other.wall, "reference_cpu_s": other.cpu,
                "reference_peak_mb": other.peak, "ratio": other.by(clock) / cost.by(clock),
            }  # fmt: skip
    rows["total"] = {
        "wall_s": sum(each.wall for each in ours.values()), "cpu_s": sum(each.cpu for each in ours.values()),
        "share": 1.0, "peak_mb": max((each.peak for each in ours.values() if each.peak), default=None),
    }  # fmt: skip
    if reference:
        compared = sum(ours[name].by(clock) for name in reference)
        rows["total"]["ratio"] = sum(each.by(clock) for each in reference.values()) / compared
        rows["total"] |= {
            "reference_wall_s": sum(each.wall for each in reference.values()),
            "reference_cpu_s": sum(each.cpu for each in reference.values()),
        }
    return rows


def rates_of(ours: Costs, context: StageContext, clock: str) -> dict[str, float]:
    """Seconds of a condensed image, and images in a second."""
    config = context.config
    images = config.ipc * len(context.data.train.class_names)
    students = len(config.evaluate.students) * config.evaluate.seeds * len(config.evaluate.rows)
    seconds = {name: cost.by(clock) for name, cost in ours.items()}
    return {
        "condensed_image_s": sum(seconds[name] for name in ("statistics", "init", "recover")) / images,
        "recover_image_s": seconds["recover"] / images,
        "relabel_images_s": images * config.relabel.epochs / seconds["relabel"],
        "evaluate_images_s": images * config.training_epochs * students / seconds["evaluate"],
    }


def parsed() -> argparse.Namespace:
    parser = base_parser(__doc__)
    parser.add_numerics()
    parser.set_defaults(repeats=1)
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="of the config")
    parser.add_argument("--whole", action="store_true", help="the recipe as it is, not reduced")
    parser.add_argument("--no-reference", dest="reference", action="store_false", help="ours alone")
    parser.add_argument(
        "--profile",
        type=int,
        default=0,
        metavar="N",
        help="instead: the N operations of most time of each stage",
    )
    options = parser.parse_args()
    if options.reference and options.device.type != "cpu" and not options.profile:
        parser.error("the reference is for a CPU: give --no-reference")
    for name in ("precision", "compile"):
        if any(field.startswith(f"{name}=") for field in options.set):
            parser.error(f"--set {name}=...: give --{name}")
    return options


def main() -> None:
    options = parsed()
    facts = {**provenance(options.device), "recipe": options.recipe, "repeats": options.repeats}
    turns: list[tuple[Costs, Costs, dict[str, float], StageContext]] = []
    folder = Path(tempfile.mkdtemp(prefix="edc-ray-bench-"))
    try:
        if options.profile:
            profiled = print_profile(
                lambda watch: run_ours(options, folder, watch), options.profile, options.device
            )
            if options.json:
                print_json({"profile": profiled, "provenance": facts})
            return
        turns += [one_turn(options, folder / str(turn)) for turn in range(options.repeats)]
    finally:
        shutil.rmtree(folder)
    all_ours, all_reference = [turn[0] for turn in turns], [turn[1] for turn in turns]
    ours, reference = each_of(all_ours, min), each_of(all_reference, min)
    numbers, rates = numbers_of(ours, reference, options.clock), rates_of(ours, turns[-1][3], options.clock)
    for medians in (medians_of("", all_ours), medians_of("reference_", all_reference)):
        for name, found in medians.items():
            numbers[name] |= found
    report(numbers, rates, turns[-1][2])
    print_facts(facts)
    if options.json:
        print_json({**numbers, "rates": rates, "accuracy": turns[-1][2], "provenance": facts})


def report(
    numbers: dict[str, dict[str, float | None]], rates: dict[str, float], accuracy: dict[str, float]
) -> None:
    fields = ("wall_s", "cpu_s", "share", "peak_mb", "reference_wall_s", "reference_cpu_s", "ratio",
              "reference_peak_mb")  # fmt: skip
    header = ["stage", "s", "CPU s", "share", "MB", "reference s", "reference CPU s", "ratio", "reference MB"]
    print_table(header, [[name, *(each.get(field) for field in fields)] for name, each in numbers.items()])
    print()
    print_medians("stage", numbers, ("wall", "cpu", "reference_wall", "reference_cpu"))
    print()
    named: dict[str, Any] = {
        "s for a condensed image, statistics to recover": rates["condensed_image_s"],
        "s for a condensed image, recover alone": rates["recover_image_s"],
        "views labelled in a second": rates["relabel_images_s"],
        "views shown to students in a second": rates["evaluate_images_s"],
        **{f"top-1 of the students, {name} (%)": value for name, value in accuracy.items()},
    }
    print_table(["", "value"], [[name, value] for name, value in named.items()])


if __name__ == "__main__":
    main()
