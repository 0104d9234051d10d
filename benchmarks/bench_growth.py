"""How the cost of recover grows with batch, resolution, observers and classes.

    python benchmarks/bench_growth.py [--observer resnet18] [--batch-sizes 4 8 16 32] [--image-sizes 64 224]

Networks, images and targets are random. There are four tables:

    batch       a step at --base-image-size for each batch size: as in a run, and without matching (float32)
    resolution  the same at --base-batch-size for each image size
    observers   an iteration of the whole loop with the first 1 to 5 observers in turn: its time is the mean
                of theirs, and all their weights are in memory
    classes     for the first observer: adding a data batch with all classes to the sums of statistics, those
                sums, the targets that recover loads (global, and of each class), and preparing a batch, which
                averages the class targets over its labels

The JSON object holds a list of rows for each table: s (of ours), plain_s, peak_mb, plain_peak_mb; for
observers iteration_s, peak_mb, weights_mb; for classes add_s, sums_mb, targets_mb, prepare_s. Times are
minima; medians are in median_s and in fields that end so. `s_per` is the time divided by that of the first
row and by what has grown: images or pixels. --precision and --compile apply to the steps and the loop.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from bench_recover_step import (
    IMAGENET_OBSERVERS,
    NUM_CLASSES,
    SETTINGS,
    chosen_observer,
    images_of,
    loop_of,
    network_of,
    of_a_run,
    patch_side_of,
    steps_of,
)
from harness import (
    base_parser,
    interleaved,
    peak_megabytes,
    print_facts,
    print_json,
    print_table,
    provenance,
)
from torch import Tensor

from edc_ray.core.layers.accumulator import StatisticsAccumulator
from edc_ray.core.layers.image_statistics import image_statistics
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.core.recover.observer_matching import ObserverMatcher
from edc_ray.core.recover.state import Observer

Row = dict[str, Any]


def sized(options: argparse.Namespace, batch_size: int, image_size: int) -> argparse.Namespace:
    """The options of a step of these sizes."""
    sizes = {"batch_size": batch_size, "image_size": image_size, "classes": NUM_CLASSES}
    return argparse.Namespace(**vars(options) | sizes)


def step_row(options: argparse.Namespace, batch_size: int, image_size: int) -> Row:
    steps = steps_of(options.observer, sized(options, batch_size, image_size))
    compared = {"plain": steps["plain"], "ours": steps[of_a_run(steps)]}
    timings = interleaved(compared, options.repeats, options.device)
    return {
        "batch_size": batch_size, "image_size": image_size,
        "s": timings["ours"].minimum, "median_s": timings["ours"].median,
        "plain_s": timings["plain"].minimum, "plain_median_s": timings["plain"].median,
        "peak_mb": peak_megabytes(compared["ours"], options.device),
        "plain_peak_mb": peak_megabytes(compared["plain"], options.device),
    }  # fmt: skip


def grown(rows: list[Row], amount: Callable[[Row], float]) -> list[Row]:
    """Rows with the time for what has grown, relative to the first: 1 is proportional growth."""
    first = rows[0]["s"] / amount(rows[0])
    return [row | {"s_per": row["s"] / amount(row) / first} for row in rows]


def batch_rows(options: argparse.Namespace) -> list[Row]:
    rows = [step_row(options, batch, options.base_image_size) for batch in options.batch_sizes]
    return grown(rows, lambda row: row["batch_size"])


def resolution_rows(options: argparse.Namespace) -> list[Row]:
    rows = [step_row(options, options.base_batch_size, size) for size in options.image_sizes]
    return grown(rows, lambda row: row["image_size"] ** 2)


def observer_rows(options: argparse.Namespace) -> list[Row]:
    rows = []
    sizes = sized(options, options.base_batch_size, options.base_image_size)
    for count in range(1, len(IMAGENET_OBSERVERS) + 1):
        names: list[str] = list(IMAGENET_OBSERVERS[:count])
        loop = loop_of([chosen_observer(name, sizes) for name in names], sizes)
        seconds = interleaved({"loop": loop}, options.repeats, options.device)["loop"]
        held = sum(
            each.numel() * each.element_size()
            for name in names
            for each in network_of(name, sizes).state_dict().values()
        )
        rows.append(
            {
                "observers": count,
                "added": names[-1],
                "iteration_s": seconds.minimum / count,
                "iteration_median_s": seconds.median / count,
                "peak_mb": peak_megabytes(loop, options.device),
                "weights_mb": held / 1e6,
            }
        )
    return rows


def class_rows(options: argparse.Namespace) -> list[Row]:
    return [class_row(options, count) for count in options.classes]


def class_row(options: argparse.Namespace, num_classes: int) -> Row:
    sizes = sized(options, options.base_batch_size, options.base_image_size)
    images, _, _ = images_of(sizes)
    patch_side = patch_side_of(sizes)
    observer = Observer.of(options.observer, network_of(options.observer, sizes))
    rows = image_rows(observer, images, patch_side)
    # All classes have been seen before: later batches are added to sums of all of them.
    sums = StatisticsAccumulator(observer.taps.kinds, patch_side)
    labels = torch.arange(num_classes)
    copies = -(-num_classes // len(images))
    many = {layer: _map(each, lambda x: x.repeat(copies, 1)[:num_classes]) for layer, each in rows.items()}
    sums.add_measured(many, labels)
    batch = labels[torch.arange(len(images)) * num_classes // len(images)]
    targets = {
        layer: LayerTarget(_map(each, lambda x: x.mean(0)), _map(many[layer], lambda x: x.float()))
        for layer, each in rows.items()
    }
    runs = {
        "add": lambda: sums.add_measured(rows, batch),
        "prepare": lambda: ObserverMatcher(observer, targets, batch.to(images.device), SETTINGS, images),
    }
    timings = interleaved(runs, options.repeats, options.device)
    held = [each for target in targets.values() for each in _tensors(target.classes, target.global_)]
    return {
        "classes": num_classes,
        "add_s": timings["add"].minimum, "add_median_s": timings["add"].median,
        "sums_mb": sum(each.nbytes for each in sums.to_arrays().values()) / 1e6,
        "targets_mb": sum(each.numel() * 4 for each in held) / 1e6,
        "prepare_s": timings["prepare"].minimum, "prepare_median_s": timings["prepare"].median,
    }  # fmt: skip


@torch.no_grad()
def image_rows(observer: Observer, images: Tensor, patch_side: int) -> dict[str, LayerStatistics]:
    """Each image's own statistics of every layer."""
    with observer.taps.measuring_images(image_statistics, patch_side) as rows:
        observer.logits(images)
    return rows


def _map(statistics: LayerStatistics, change: Callable[[Tensor], Tensor]) -> LayerStatistics:
    return LayerStatistics(*(change(each) for each in statistics.quantities))


def _tensors(*several: LayerStatistics | None) -> list[Tensor]:
    return [each for statistics in several if statistics is not None for each in statistics.quantities]


def main() -> None:
    parser = base_parser(__doc__)
    parser.add_numerics()
    parser.add_argument("--observer", default="resnet18")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--image-sizes", type=int, nargs="+", default=[64, 96, 128, 160, 192, 224])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--base-batch-size", type=int, default=8, help="where something else grows")
    parser.add_argument("--base-image-size", type=int, default=128, help="where something else grows")
    parser.set_short(repeats=1, base_batch_size=4, image_sizes=[64, 128, 224])
    options = parser.parse_args()
    facts = {
        **provenance(options.device), "observer": options.observer, "repeats": options.repeats,
        "base_batch_size": options.base_batch_size, "base_image_size": options.base_image_size,
    }  # fmt: skip
    tables = {
        "batch": batch_rows, "resolution": resolution_rows, "observers": observer_rows, "classes": class_rows,
    }  # fmt: skip
    found: dict[str, list[Row]] = {}
    for name, rows_of in tables.items():
        found[name] = rows_of(options)
        header = list(found[name][0])
        print_table([name, *header], [["", *row.values()] for row in found[name]])
        print()
    print_facts(facts)
    if options.json:
        print_json({**found, "provenance": facts})


if __name__ == "__main__":
    main()
