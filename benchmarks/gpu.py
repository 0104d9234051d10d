"""All benchmarks of a GPU at the paper's sizes, one after the other, each with its record.

    python benchmarks/gpu.py [--minutes N] [--only THEME ...] [--set FIELD=VALUE ...] [--list]

The sizes: batches of 80 at 224x224, the five ImageNet observers, ImageNet-1k at ten images per class; labels
and students in batches of 100 at 224x224 with ResNet-18; the whole recipe for CIFAR-10, on made images unless
`--set dataset.train=URL dataset.val=URL` gives real ones. `make bench-gpu` calls it.

On a bare machine it needs the folders edc_ray, benchmarks and tests beside pyproject.toml, and an interpreter
with the packages below (for the tests pytest and hypothesis, too): neither Ray nor an installation of edc-ray
nor the network. A copy without a repository needs its commit in EDC_RAY_COMMIT.

Each benchmark writes its record results/<theme>_<gpu>_<yyyymm> when it ends, and the figures known so far are
printed. A further call leaves out those that have a record of this code, so a short time with a GPU is
enough: `--minutes 10` stops after ten, the most valuable themes first. If a benchmark fails, the others run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from records import RESULTS, changed_files, is_of_this_code, markdown_table

HERE = Path(__file__).parent
PACKAGES = (
    "torch", "torchvision", "numpy", "PIL", "pyarrow", "pydantic", "yaml", "fsspec", "filelock",
    "safetensors", "rich", "sklearn", "tenacity",
)  # fmt: skip
RECOVER = (
    "bench_recover_step.py --batch-size 80 --ipc 10 --classes 1000 --iterations 2000 --rounds 5 --repeats 20 "
    "--compile auto"
)
FLOOR = (
    "bench_floor.py --batch-size 80 --small-batch-size 100 --small-image-size 224 --students resnet18 "
    "--repeats 20"
)
LABELS = "--images 1000 --classes 1000 --image-size 224 --batch-size 100 --repeats 3"
PLAN = {
    "tests": "gpu_tests.py",
    "recover_step": RECOVER,
    "recover_step_bfloat16": f"{RECOVER} --precision bfloat16",
    "relabel": f"bench_relabel.py {LABELS} --observer resnet18",
    "student_step": f"bench_student_step.py {LABELS} --student resnet18 --compile auto",
    "student_step_bfloat16": (
        f"bench_student_step.py {LABELS} --student resnet18 --compile auto --precision bfloat16"
    ),
    "trainings": "bench_trainings.py --repeats 2",
    "recipe": f"bench_recipe.py --folder {Path(tempfile.gettempdir(), 'edc_ray_recipe')}",
    "floor": FLOOR,
    "floor_bfloat16": f"{FLOOR} --precision bfloat16",
    "statistics": "bench_statistics.py --images 120 --batch-size 80 --crops 5 --repeats 3",
    "growth": (
        "bench_growth.py --batch-sizes 10 20 40 80 160 --image-sizes 64 128 224 --base-batch-size 80 "
        "--base-image-size 224 --repeats 10"
    ),
    "pipeline": "bench_pipeline.py --no-reference",
    # Last, because the compiler takes minutes before the first step.
    "recover_step_graphs": f"{RECOVER} --precision bfloat16 --compile graphs",
}
"""Theme -> script and options. Other options have their defaults: the precision is that of a run (TF32)."""


def gpu_name(device_name: str) -> str:
    """A device's name as it stands in the names of records: h200, rtx4090."""
    words = re.findall(r"[a-z0-9]+", device_name.lower())
    return "".join(word for word in words if word not in ("nvidia", "geforce", "tesla")) or "gpu"


def record_name(theme: str, device_name: str) -> str:
    return f"{theme}_{gpu_name(device_name)}_{datetime.now(UTC):%Y%m}"


def is_recorded(name: str) -> bool:
    """Whether there is a record of this code."""
    try:
        kept = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    whole = kept["result"].get("complete", True)
    return whole and not kept["dirty"] and is_of_this_code(kept["environment"]["commit"])


def device_name_of(device: str) -> str:
    """The name of a CUDA device.

    Raises:
        SystemExit: there is none, or packages are missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(f"{sys.executable} has no {', '.join(missing)}: install them, or set PYTHON=")
    import torch

    if not torch.cuda.is_available():
        raise SystemExit(
            f"no CUDA device: torch {torch.__version__} sees none here; `make bench` is for a CPU"
        )
    return torch.cuda.get_device_name(device)


def run(theme: str, name: str, options: argparse.Namespace, seconds: float | None = None) -> bool:
    """Run one benchmark in a separate process, for at most so many seconds; whether it succeeded."""
    script, *words = PLAN[theme].split()
    words += [
        "--device",
        options.device,
        "--record",
        name,
        *(["--allow-dirty"] if options.allow_dirty else []),
        *(["--set", *options.fields] if options.fields and theme == "recipe" else []),
    ]
    paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    print(f"\n{name}: {script} {' '.join(words)}", flush=True)
    begun = time.monotonic()
    command = [sys.executable, str(HERE / script), *words]
    try:
        done = subprocess.run(command, env=environment, check=False, timeout=seconds)
        ended = "done" if done.returncode == 0 else "FAILED"
    except subprocess.TimeoutExpired:
        ended = "out of time"
    print(f"{name}: {ended}, {time.monotonic() - begun:.0f} s", flush=True)
    return ended == "done"


def figures(records: dict[str, dict[str, Any]]) -> list[list[str]]:
    """What, in which theme, and the number, of all records: theme -> its result."""
    rows: list[list[str]] = []
    for theme, found in records.items():
        if theme.startswith("recover_step"):
            for name, each in found["loop"]["observers"].items():
                rows.append([f"ms an iteration, {name}", theme, f"{each['iteration_ms']:.2f}"])
            image = found["loop"]["condensed_image_s"]
            rows.append(["s a condensed image, ImageNet-1k ipc 10", theme, f"{image:.3f}"])
            share = "chosen_floor_share" if "chosen_floor_share" in found["total"] else "floor_share"
            rows.append(["share of the roofline, sum of the steps", theme, f"{found['total'][share]:.3f}"])
        elif theme.startswith(("relabel", "student_step")):
            rows.append(["images a second", theme, f"{found['images_per_s']:.0f}"])
            rows.append(["loader alone, share of the whole", theme, f"{found['loader_share']:.3f}"])
            rows.append(["saved without the loader", theme, f"{found['loader_added_share']:.3f}"])
        elif theme == "tests":
            rows.append(["tests passed, failed", theme, f"{found['passed']}, {len(found['failed'])}"])
        elif theme == "trainings":
            for number, each in found["at_once"].items():
                told = f"images a second, 8 observers, {number} at once"
                rows.append([told, theme, f"{each['images_per_s']:.0f}"])
        elif theme == "recipe":
            for stage, each in found["stages"].items():
                rows.append([f"s of {stage}, CIFAR-10", theme, f"{each['seconds']:.1f}"])
            whole = "" if found["complete"] else ", not finished"
            rows.append([f"s of all stages, CIFAR-10{whole}", theme, f"{found['total_s']:.1f}"])
        elif theme.startswith("floor"):
            for step, each in found["steps"].items():
                rows.append([f"share of the roofline, {step}", theme, f"{each['share']:.3f}"])
    return rows


def _print_figures(names: dict[str, str], failed: Sequence[str] = ()) -> None:
    """The figures of records: theme -> name. One that failed may have left what is known of this code."""
    found = {}
    for theme, name in names.items():
        path = RESULTS / f"{name}.json"
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        if kept and (theme not in failed or is_of_this_code(kept["environment"]["commit"])):
            found[theme] = kept["result"]
    print("\n" + markdown_table([["figure", "theme", "value"], *figures(found)]), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, help="stop then; the next call does the rest")
    parser.add_argument("--only", nargs="+", choices=PLAN, default=list(PLAN), metavar="THEME")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="FIELD=VALUE", dest="fields", help="of the recipe"
    )
    parser.add_argument("--list", action="store_true", help="print the themes and what they run")
    parser.add_argument("--allow-dirty", action="store_true", help="also record changed code")
    options = parser.parse_args(arguments)
    if options.list:
        for theme, command in PLAN.items():
            print(f"{theme}: {command}")
        return 0
    device_name = device_name_of(options.device)
    changed = changed_files()
    if changed and not options.allow_dirty:
        parser.error(f"uncommitted changes in {', '.join(changed[:5])}: commit first, or --allow-dirty")
    names = {theme: record_name(theme, device_name) for theme in options.only}
    end = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    failed = []
    for theme, name in names.items():
        left = end - time.monotonic()
        if not changed and is_recorded(name):
            print(f"{name}: recorded already", flush=True)
        elif left <= 0 or not run(theme, name, options, None if left == math.inf else left):
            failed.append(theme)
        else:
            _print_figures({theme: name})
    _print_figures(names, failed)
    if failed:
        told = "failed, or out of time"
        print(f"{told}: {', '.join(failed)}; the next call tries them again", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
