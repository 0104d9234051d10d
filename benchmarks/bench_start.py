"""What a user waits for: imports, first commands, the first unit of a run, small runs with and without Ray.

    python benchmarks/bench_start.py [--repeats 10] [--runs 3] [--growth 1 4]

The JSON object holds s and median_s of each command: python (an empty script), import (`import edc_ray`),
recipe (a config from a recipe), run (the names that run a config, which import torch), version, show_config
and status (commands; status of a folder without a run).

`first_unit` holds, for none (this process) and local (an embedded Ray), the seconds from the start of the
interpreter to the begin and end of the first unit of digits, in the fastest of --runs runs, and their causes.
`whole` holds seconds of whole runs of digits for each --growth of its epochs and iterations: where Ray starts
to save time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness import base_parser, interleaved, print_facts, print_json, print_table, provenance

SCRIPTS = {
    "python": ("-c", "pass"),
    "import": ("-c", "import edc_ray"),
    "recipe": ("-c", "import edc_ray; edc_ray.recipe('digits', ipc=1)"),
    "run": ("-c", "import edc_ray; edc_ray.run"),
    "version": ("-m", "edc_ray", "--version"),
    "show_config": ("-m", "edc_ray", "show-config", "digits"),
    "status": ("-m", "edc_ray", "status", "no-such-folder"),
}
ADDRESSES = ("none", "local") if find_spec("ray") else ("none",)
COLUMNS = ("without Ray", "on Ray")[: len(ADDRESSES)]
CAUSES = (
    ("command_line", "Python and the command line"),
    ("engine", "torch and the stages are imported"),
    ("ray_imported", "Ray is imported"),
    ("ready", "data is opened and checked, Ray's processes start"),
    ("begun", "workers import the stages, the unit is sent"),
    ("ended", "the first unit is done"),
)
# What users have: with this variable every process compiles every module that it imports.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def started(words: tuple[str, ...]) -> Callable[[], object]:
    """A call that runs an interpreter with these words to its end."""
    return lambda: subprocess.run([sys.executable, *words], capture_output=True, check=False, env=ENVIRONMENT)


def marks_of_run(address: str, *words: str) -> dict[str, float]:
    """Seconds from the start of an interpreter to what `first_unit.py` marks."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        child = subprocess.run(
            [sys.executable, Path(__file__).with_name("first_unit.py"), address, folder, *words],
            env=ENVIRONMENT | {"EDC_RAY_BENCH_START": repr(time.time())},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    marks = json.loads(child.stdout.splitlines()[-1])
    return marks | {"ready": max(marks["data"], marks.get("ray_started", 0.0))}


def first_units(runs: int) -> dict[str, dict[str, Any]]:
    """address -> begun_s, ended_s and the seconds of each cause, of the fastest run."""
    marks_of_run(ADDRESSES[-1])  # compiles what is imported
    found = {address: list[dict[str, float]]() for address in ADDRESSES}
    for _ in range(runs):
        for address, turns in found.items():
            turns.append(marks_of_run(address))
    fastest = {address: min(turns, key=lambda marks: marks["begun"]) for address, turns in found.items()}
    return {address: _by_cause(marks) for address, marks in fastest.items()}


def _by_cause(marks: dict[str, float]) -> dict[str, Any]:
    causes, before = {}, 0.0
    for name, _ in CAUSES:
        if name in marks:
            causes[name], before = marks[name] - before, marks[name]
    return {"begun_s": marks["begun"], "ended_s": marks["ended"], "causes_s": causes}


def whole_runs(growth: list[int]) -> dict[str, dict[str, float]]:
    """growth -> seconds of a whole run at each address."""
    found = {}
    for times in growth:
        fields = [f"squeeze.epochs={8 * times}", f"recover.iterations={200 * times}",
                  f"relabel.epochs={200 * times}"]  # fmt: skip
        found[str(times)] = {each: marks_of_run(each, "--whole", *fields)["whole"] for each in ADDRESSES}
    return found


def print_first_units(found: dict[str, dict[str, Any]]) -> None:
    rows = [[text, *(found[each]["causes_s"].get(name) for each in ADDRESSES)] for name, text in CAUSES]
    rows.append(["until the first unit begins", *(found[each]["begun_s"] for each in ADDRESSES)])
    print_table(["seconds to the first unit of digits, by cause", *COLUMNS], rows)


def parsed() -> argparse.Namespace:
    parser = base_parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of digits, to the end of the first unit")
    parser.add_argument("--growth", type=int, nargs="*", default=[1, 4], help="of whole runs; none: no run")
    parser.set_short(runs=1, growth=[])
    return parser.parse_args()


def main() -> None:
    options = parsed()
    scripts = {name: started(words) for name, words in SCRIPTS.items()}
    timings = interleaved(scripts, options.repeats, options.device)
    numbers = {name: {"s": each.minimum, "median_s": each.median} for name, each in timings.items()}
    print_table(["start", "s", "median s"], [[name, *each.values()] for name, each in numbers.items()])
    first = first_units(options.runs)
    print_first_units(first)
    whole = whole_runs(options.growth)
    if whole:
        rows = [[f"{times} times the epochs", *each.values()] for times, each in whole.items()]
        print_table(["whole runs of digits, seconds", *COLUMNS], rows)
    facts = provenance(options.device)
    print_facts(facts)
    if options.json:
        print_json({**numbers, "first_unit": first, "whole": whole, "provenance": facts})


if __name__ == "__main__":
    main()
