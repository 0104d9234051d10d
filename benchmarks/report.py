"""Times the variants of an epoch in turns and prints them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from harness import interleaved, peak_megabytes, print_json, print_note, print_table, provenance
from remote import Remote


def print_report(
    name: str,
    options: argparse.Namespace,
    variants: Mapping[str, Callable[[], object]],
    remote: Remote,
    *,
    images: int,
) -> None:
    """A table, and with --json the object.

    Args:
        name: of the benchmark.
        options: of the command line.
        variants: plain, reference and reference_data.
        remote: has ours, ours_data and ours_network.
        images: views that one call makes.
    """
    ours = ("ours", "ours_data", "ours_network")
    every = dict(variants) | {each: partial(remote.run, each) for each in ours}
    timings = interleaved(every, options.repeats, options.device)
    peaks = {each: peak_megabytes(variants[each], options.device) for each in ("plain", "reference")}
    peaks["ours"] = remote.peak_megabytes("ours")
    found: dict[str, Any] = {}
    for each, timing in timings.items():
        found[f"{each}_s"], found[f"{each}_median_s"] = timing.minimum, timing.median
    found["ratio"] = found["reference_s"] / found["ours_s"]
    found["data_ratio"] = found["reference_data_s"] / found["ours_data_s"]
    found["to_plain"] = found["ours_s"] / found["plain_s"]
    found["loader_share"] = found["ours_data_s"] / found["ours_s"]
    found["loader_added_share"] = max(0.0, 1 - found["ours_network_s"] / found["ours_s"])
    found["images_per_s"] = images / found["ours_s"]
    found |= {"peak_mb": peaks["ours"], "plain_peak_mb": peaks["plain"]}
    found["reference_peak_mb"] = peaks["reference"]
    rows = [
        [each, 1e3 * timing.minimum, 1e3 * timing.median, 1e6 * timing.minimum / images,
         images / timing.minimum,
         found["reference_data_s" if each.endswith("_data") else "reference_s"] / timing.minimum,
         timing.minimum / found["plain_s"], peaks.get(each)]
        for each, timing in sorted(timings.items())
    ]  # fmt: skip
    network = getattr(options, "student", None) or options.observer
    print(f"{name}: {images} views of {options.image_size} pixels, {options.threads} threads")
    header = ["", "min ms", "median ms", "us a view", "images/s", "reference /", "/ plain", "peak MB"]
    print_table(header, rows)
    print_note(
        f"The loader (views, labels) by itself takes {found['loader_share']:.3f} of the time of the whole; "
        f"without it the whole takes {found['loader_added_share']:.3f} less. Ours in {options.precision}, "
        f"compile {options.compile}, {network}."
    )
    if options.json:
        shape = {
            each: getattr(options, each)
            for each in ("image_size", "batch_size", "classes", "rand_augment", "picture_format", "repeats")
        }
        print_json(
            {
                "bench": name,
                "network": network,
                "images": images,
                **shape,
                **found,
                **provenance(options.device),
            }
        )
