"""What it costs to prove Parquet files of others in the reader process before they are read.

    python benchmarks/bench_foreign_parquet.py [--images 25000] [--repeats 5]

Two files hold images of 2,300 random bytes, about a PNG of CIFAR-10: a small one of ten images, and one of
--images in row groups of 1,000. The JSON object holds s and median_s of

    start                    a reader process starts and proves the small file
    small, large: trusted    the file is read as one of ours: not proven
    small, large: first      it is proven by a process that runs, and read
    small, large: again      it is read by a reader that has proven it

and mb, the size of each file. `trusted` is what a shard of ours costs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from harness import base_parser, interleaved, print_facts, print_json, print_table, provenance

from edc_ray.artifacts.tables import reader_process
from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.parquet_groups import ParquetGroups

_IMAGE_BYTES = 2300
_GROUP = 1000
_COLUMNS = ["image.bytes", "label"]


def written(images: int) -> bytes:
    """A data set in the layout of Hugging Face."""
    random = np.random.default_rng(0)
    cells = [{"bytes": random.bytes(_IMAGE_BYTES), "path": None} for _ in range(images)]
    labels = random.integers(0, 10, images)
    return table_to_bytes(pa.table({"image": cells, "label": labels}), rows_per_group=_GROUP)


def read(data: bytes, *, ours: bool = False) -> None:
    """All row groups, one after another."""
    file = ParquetGroups(lambda spans: [data[at : at + size] for at, size in spans], len(data), ours=ours)
    for group in range(file.metadata.num_row_groups):
        file.read([group], _COLUMNS)


def forgotten() -> None:
    """Nothing is proven yet, and the process runs."""
    reader_process._proven.clear()


def variants(options: argparse.Namespace) -> tuple[dict[str, Callable[[], object]], dict[str, bytes]]:
    files = {"small": written(10), "large": written(options.images)}

    def start() -> None:
        reader_process._readers.setdefault(os.getpid(), reader_process._Reader()).stop()
        forgotten()
        read(files["small"])

    calls: dict[str, Callable[[], object]] = {"start": start}
    for name, data in files.items():
        calls[f"{name}: trusted"] = lambda data=data: read(data, ours=True)
        calls[f"{name}: first"] = lambda data=data: (forgotten(), read(data))
        calls[f"{name}: again"] = lambda data=data: read(data)
    return calls, files


def main() -> None:
    parser = base_parser(__doc__)
    parser.add_argument("--images", type=int, default=25_000)
    parser.set_short(images=5000)
    options = parser.parse_args()
    calls, files = variants(options)
    found = interleaved(calls, options.repeats, options.device)
    numbers = {name: {"s": each.minimum, "median_s": each.median} for name, each in found.items()}
    print_table(["read", "s", "median s"], [[name, *each.values()] for name, each in numbers.items()])
    sizes = {name: len(data) / 1e6 for name, data in files.items()}
    facts = provenance(options.device)
    print_facts(facts | {f"{name}_mb": size for name, size in sizes.items()})
    if options.json:
        print_json({**numbers, "mb": sizes, "provenance": facts})


if __name__ == "__main__":
    main()
