"""Observers trained side by side in one process, against one after the other: images a second of all.

    python benchmarks/bench_trainings.py [--observers NAME ...] [--images 10000] [--at-once 1 2 4 8]

The stage squeeze of a run on made images (made_images.py), in this process, for each number of trainings at
once (`cluster.trainings_per_actor`), in turns. Each call is a new run in memory, so it holds the capture of
every observer's step, as a run does. The JSON object has at_once -> s, median_s, images_per_s, and peak_mb of
the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import torch
from bench_launches import SMALL
from harness import base_parser, interleaved, print_facts, print_json, print_table, provenance
from made_images import SOURCE, sizes

from edc_ray.config.load import load_recipe
from edc_ray.runs.open_run import open_inputs, open_run
from edc_ray.stages.pipeline import run_pipeline


def squeeze(options: Any, at_once: int) -> Callable[[], None]:
    """A call that trains all observers of a new run."""
    words = [
        f"device={options.device.type}", "cluster.address=none", f"cluster.trainings_per_actor={at_once}",
        f"compile={options.compile}", f"precision={options.precision}",
        f"dataset.train={SOURCE}", f"dataset.val={SOURCE}", "dataset.allow_weak_observers=true",
        f"squeeze.observers=[{','.join(options.observers)}]", f"squeeze.epochs={options.epochs}",
    ]  # fmt: skip

    def run() -> None:
        inputs = open_inputs(load_recipe("cifar10", [*words, f"storage.root=memory://{uuid4().hex}"]))
        run_pipeline(open_run(inputs, options.device), ["squeeze"])

    return run


def main() -> None:
    parser = base_parser(__doc__)
    parser.add_argument("--observers", nargs="+", default=list(SMALL))
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_numerics()
    parser.set_defaults(compile="auto")
    parser.set_short(observers=["convnet_d1", "convnet_d2"], images=400, epochs=1, at_once=[1, 2])
    options = parser.parse_args()
    sizes.counts = {"train": options.images, "val": 500}
    timings = interleaved(
        {str(number): squeeze(options, number) for number in options.at_once}, options.repeats, options.device
    )
    trained = options.images * options.epochs * len(options.observers)
    found: dict[str, dict[str, Any]] = {}
    for number, timing in timings.items():
        found[number] = {
            "s": timing.minimum, "median_s": timing.median, "images_per_s": trained / timing.minimum
        }  # fmt: skip
    peak = torch.cuda.max_memory_reserved() / 1e6 if options.device.type == "cuda" else None
    print_table(
        ["at once", "s", "median s", "images a second"],
        [[number, each["s"], each["median_s"], each["images_per_s"]] for number, each in found.items()],
    )
    facts = {**provenance(options.device), "observers": options.observers, "images": options.images}
    facts |= {"epochs": options.epochs, "peak_mb": peak}
    print_facts(facts)
    if options.json:
        print_json({**facts, "at_once": found})


if __name__ == "__main__":
    main()
