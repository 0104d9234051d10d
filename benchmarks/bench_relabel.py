"""One epoch of relabel: views of all images are drawn, made, labelled by an observer and stored.

    python benchmarks/bench_relabel.py [--images 500] [--image-size 32] [--batch-size 50] [--rand-augment]

The observer and the images are random; the time depends on neither. Three variants:

    plain      the observer's forward passes alone, on views made before
    reference  each picture opened and transformed by itself, a file for each batch
               (reference/label_batches.py)
    ours       as the stage does it with --precision and --compile, in a separate process

plain and reference compute a ConvNet by torch's own layers (reference/torch_layers.py). reference and ours
are also measured without the observer, which is their data path alone. ours is also measured without its
data path, on views made before. ours decodes the images once for the whole stage and keeps their bytes. The
reference opens them again in each epoch, as the official programs do.

The JSON object holds plain_s, reference_s, ours_s, reference_data_s, ours_data_s, ours_network_s (minima;
medians end in _median_s), ratio and data_ratio (of the reference to ours), to_plain, images_per_s, and
peak_mb, plain_peak_mb, reference_peak_mb. loader_share is ours_data_s / ours_s. On a GPU the loader runs
beside the network, so this is more than the loader costs; loader_added_share is 1 - ours_network_s / ours_s.
gpu.py has the sizes for a GPU.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from epochs import MEAN, STD, Work, parser, work_of
from harness import chosen_fused, chosen_network, chosen_numerics, in_chosen_precision
from reference.label_batches import relabel_epoch
from reference.torch_layers import by_torch_layers
from remote import Remote
from report import print_report
from torch import Tensor, nn

from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import build_labels_table
from edc_ray.core.labels.soft_labels import ensemble_logits
from edc_ray.core.views.views import render_views
from edc_ray.data.condensed.label_rows import rows_of_views
from edc_ray.kernels.cpu.views import view_kernel_for
from edc_ray.models.observers import freeze
from edc_ray.models.registry import build_network
from edc_ray.stages.units.numerics import keep_freed_memory


def observer_of(options: argparse.Namespace) -> nn.Module:
    network = build_network(
        options.observer, num_classes=options.classes, image_size=options.image_size, channels=3, seed=0
    )
    return freeze(network.to(options.device))


def plain_of(work: Work, options: argparse.Namespace) -> Callable[[], object]:
    observer, rows = by_torch_layers(observer_of(options)), np.arange(len(work.slots))
    views = render_views(work.images, work.views(0), rows, mean=MEAN, std=STD)

    def run() -> None:
        with torch.no_grad():
            for batch in views.split(options.batch_size):
                observer(batch)

    return run


def ours_of(options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """The stage's work, and its views alone."""
    keep_freed_memory()
    work, observer = work_of(options, Path(options.folder)), chosen_network(observer_of(options), options)
    fused = chosen_fused(observer, "results", options, options.image_size)
    forward = chosen_numerics(options).forward(fused)
    kernel, count = view_kernel_for(options.device), len(work.slots)
    names, labels = [str(label) for label in range(options.classes)], work.labels.numpy()

    def label(views: Tensor) -> Tensor:
        return ensemble_logits([forward(views)], "none")

    @torch.no_grad()
    def epoch(*, labelled: bool) -> None:
        views, logits = work.views(1), []
        for first in range(0, count, options.batch_size):
            rows = np.arange(first, min(first + options.batch_size, count))
            batch = render_views(work.images, views, rows, mean=MEAN, std=STD, kernel=kernel)
            if labelled:
                logits.append(label(batch))
        if not labelled:
            return
        values = torch.cat(logits).cpu().numpy().astype(np.float16)
        rows = rows_of_views(1, views, labels, work.ipc_ids, values)
        data = table_to_bytes(build_labels_table(rows, names), rows_per_group=count)
        Path(options.folder, "ours.parquet").write_bytes(data)

    ready = render_views(work.images, work.views(0), np.arange(count), mean=MEAN, std=STD, kernel=kernel)

    @torch.no_grad()
    def network() -> None:
        for batch in ready.split(options.batch_size):
            label(batch)

    return {
        "ours": in_chosen_precision(lambda: epoch(labelled=True), options),
        "ours_data": lambda: epoch(labelled=False),
        "ours_network": in_chosen_precision(network, options),
    }


def main() -> None:
    found = parser(__doc__)
    found.add_argument("--observer", default="convnet_w32")
    options = found.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        options.folder = folder
        work, observer = work_of(options, Path(folder)), by_torch_layers(observer_of(options))

        def labelled(views: Tensor) -> Tensor:
            return observer(views.to(options.device)).cpu()

        def reference(observers: list[Callable[[Tensor], Tensor]]) -> Callable[[], None]:
            labels = Path(folder, "epoch")
            return lambda: relabel_epoch(work.paths, work.recipe, options.batch_size, observers, labels)

        variants = {
            "plain": plain_of(work, options),
            "reference": reference([labelled]),
            "reference_data": reference([]),
        }
        with Remote(ours_of, options) as remote:
            print_report("relabel", options, variants, remote, images=len(work.slots))


if __name__ == "__main__":
    main()
