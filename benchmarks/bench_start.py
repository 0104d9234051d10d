"""What a script waits for before its work begins: imports and first commands, each in a fresh interpreter.

    python benchmarks/bench_start.py [--repeats 10]

The JSON object holds s and median_s of each: python (an empty script), import (`import edc_ray`), recipe (a
config from a recipe), run (the names that run a config, which import torch), version, show_config and status
(commands; status of a folder without a run).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

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


def started(words: tuple[str, ...]) -> Callable[[], object]:
    """A call that runs an interpreter with these words to its end."""
    return lambda: subprocess.run([sys.executable, *words], capture_output=True, check=False)


def main() -> None:
    options = base_parser(__doc__).parse_args()
    scripts = {name: started(words) for name, words in SCRIPTS.items()}
    found = interleaved(scripts, options.repeats, options.device)
    numbers = {name: {"s": each.minimum, "median_s": each.median} for name, each in found.items()}
    print_table(["start", "s", "median s"], [[name, *each.values()] for name, each in numbers.items()])
    facts = provenance(options.device)
    print_facts(facts)
    if options.json:
        print_json({**numbers, "provenance": facts})


if __name__ == "__main__":
    main()
