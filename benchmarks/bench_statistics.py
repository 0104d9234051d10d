"""The stages that read real images: statistics of the observers' layers, and initial images from crops.

    python benchmarks/bench_statistics.py [--images 6] [--image-size 224] [--observers NAME ...] [--json]

The observers are random, and the images are made JPEG files whose sides are half as long again; the time
depends on neither. Three variants of each stage:

    plain      the observers' forwards alone, float32, NCHW, on images or crops made before
    reference  the straightforward way (reference/statistics_pass.py, reference/crop_mosaics.py): each image
               opened by itself; one pass for each observer, class sums image by image; one forward for each
               crop of all images of the class
    ours       the stages' own functions in --precision (no compiler: they are one pass), in a separate
               process

The ratio is reference to ours; both decode the files again in every turn. "both" adds the times of the two
stages. Memory is what a variant needs at most beyond what is in use before it. The JSON object holds under
"statistics", "init" and "both": plain_s, reference_s, ours_s (minima; medians end in _median_s), ratio,
to_plain, and for each stage images_per_s, peak_mb, plain_peak_mb, reference_peak_mb.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import (
    base_parser,
    chosen_network,
    in_chosen_precision,
    interleaved,
    peak_megabytes,
    print_facts,
    print_json,
    print_medians,
    print_table,
    provenance,
)
from PIL import Image
from reference.crop_mosaics import best_crops, mosaics_of
from reference.statistics_pass import load_image, pass_of_observer
from remote import Remote
from torch import Tensor, nn

from edc_ray.artifacts.storage.store import open_store
from edc_ray.config.load import load_recipe, with_fields
from edc_ray.core.seeding import draws
from edc_ray.core.views.crops import cut_crops, pad_to_size, sample_crops
from edc_ray.data.real.sources import open_dataset
from edc_ray.models.observers import freeze
from edc_ray.models.registry import build_network
from edc_ray.stages.init.mosaics import mosaics_of_class
from edc_ray.stages.statistics.stage import accumulate_batches, plan
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.numerics import keep_freed_memory

OBSERVERS = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet")
FACTOR = 2
VARIANTS = ("plain", "reference", "ours")
Steps = dict[str, Callable[[], object]]


def write_images(folder: Path, options: argparse.Namespace) -> list[Path]:
    """The files of a training set, two thirds of class 0; more for validation. Smooth as photographs."""
    random, side = np.random.default_rng(0), options.image_size
    first = [
        f"train/{int(3 * index >= 2 * options.images)}/{index:05d}.jpg" for index in range(options.images)
    ]
    for name in (*first, "val/0/0.jpg", "val/1/1.jpg"):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((side * 2, side * 3 // 2), Image.Resampling.BICUBIC).save(folder / name, quality=90)
    return [folder / name for name in first]


def opened(folder: Path, options: argparse.Namespace) -> StageContext:
    """The context of a run on these files, its observers in memory."""
    fields: dict[str, Any] = {
        "dataset.train": str(folder / "train"), "dataset.val": str(folder / "val"),
        "dataset.name": "made", "dataset.num_classes": None, "dataset.class_names": None,
        "dataset.image_size": options.image_size, "dataset.channels": 3,
        "dataset.mean": (0.5, 0.5, 0.5), "dataset.std": (0.25, 0.25, 0.25),
        "dataset.train_resize": "shorter_side",
        "squeeze.observers": list(options.observers),
        **{f"{section}.observers": None for section in ("init", "recover", "relabel")},
        "statistics.batch_size": options.batch_size,
        "statistics.batches_per_unit": 10**6, "statistics.augmentation": "none",
        "statistics.patch_side": 16 if options.image_size > 64 else 4, "init.factor": FACTOR,
        "init.images_per_class": options.images, "init.crops_per_image": options.crops,
        "init.mosaic_order": "rded", "init.crop_resize": "nearest", "ipc": 1,
        "precision": options.precision,
    }  # fmt: skip
    config = with_fields(load_recipe("imagenet10"), fields)
    # Nothing stays decoded, as in sets of a realistic size.
    data = open_dataset(config.dataset, seed=0, memory_limit=0)
    config = config.model_copy(update={"dataset": data.spec})
    networks = {name: chosen_network(network, options) for name, network in networks_of(options).items()}
    return StageContext(
        config, open_store("memory://bench_statistics"), data, options.device, _networks=networks
    )


def networks_of(options: argparse.Namespace) -> dict[str, nn.Module]:
    """The observers, in float32."""
    sizes = {"num_classes": 1000, "image_size": options.image_size, "channels": 3, "seed": 0}
    return {name: freeze(build_network(name, **sizes).to(options.device)) for name in options.observers}


def normalisation(context: StageContext) -> dict[str, Any]:
    spec = context.config.dataset
    return {"mean": spec.mean, "std": spec.std}


def ours_of(options: argparse.Namespace) -> Steps:
    """The work of both stages; units are computed with freed memory kept."""
    keep_freed_memory()
    context = opened(Path(options.folder), options)
    (unit,) = plan(context)
    return {
        "statistics": in_chosen_precision(lambda: accumulate_batches(context, unit), options),
        "init": in_chosen_precision(lambda: mosaics_of_class(context, 0), options),
    }


def statistics_steps(
    context: StageContext, networks: list[nn.Module], files: list[Path], labels: list[int]
) -> Steps:
    section, size = context.config.statistics, context.data.train.image_size
    shown = torch.stack([load_image(path, size, **normalisation(context)) for path in files])
    shown = shown.to(context.device)

    def reference() -> None:
        for network in networks:
            pass_of_observer(
                network, files, labels, batch_size=section.batch_size, patch_side=section.patch_side,
                image_size=size, **normalisation(context),
            )  # fmt: skip

    return {
        "plain": lambda: [forwards(network, shown, section.batch_size) for network in networks],
        "reference": reference,
    }


def init_steps(
    context: StageContext, networks: list[nn.Module], files: list[Path], labels: list[int]
) -> Steps:
    section, size = context.config.init, context.data.train.image_size
    members = [path for path, label in zip(files, labels, strict=True) if label == 0]

    def crops_of(index: int) -> Tensor:
        image = load_image(members[index], size, **normalisation(context))
        crops = sample_crops(
            draws(0, "bench", index), section.crops_per_image, (size, size), section.crop_scale
        )
        return cut_crops(image, crops, size // FACTOR)

    shown = pad_to_size(torch.cat([crops_of(index) for index in range(len(members))]), size)
    shown = shown.to(context.device)

    def reference() -> None:
        ranked = best_crops((crops_of(index) for index in range(len(members))), 0, networks, size)
        cells = (ranked * FACTOR**2)[: FACTOR**2]
        mosaics_of(cells, 1, size, FACTOR)

    return {
        "plain": lambda: [forwards(network, shown, 32) for network in networks],
        "reference": reference,
    }


@torch.no_grad()
def forwards(network: nn.Module, images: Tensor, batch_size: int) -> None:
    for batch in images.split(batch_size):
        network(batch)


def measured(
    stage: str, steps: Steps, remote: Remote, images: int, options: argparse.Namespace
) -> dict[str, float | None]:
    """The numbers of one stage, as the JSON object has them."""
    steps = steps | {"ours": lambda: remote.run(stage)}
    timings = interleaved(steps, options.repeats, options.device)
    found: dict[str, float | None] = {}
    for variant, timing in timings.items():
        found[f"{variant}_s"], found[f"{variant}_median_s"] = timing.minimum, timing.median
    found["ratio"] = timings["reference"].minimum / timings["ours"].minimum
    found["to_plain"] = timings["ours"].minimum / timings["plain"].minimum
    found["images_per_s"] = images / timings["ours"].minimum
    for variant, step in steps.items() if options.memory else ():
        ours = variant == "ours"
        peak = remote.peak_megabytes(stage) if ours else peak_megabytes(step, options.device)
        found["peak_mb" if ours else f"{variant}_peak_mb"] = peak
    return found


def together(*stages: dict[str, float | None]) -> dict[str, float | None]:
    """Times of stages in a row, and their ratio."""
    names = [f"{variant}{end}" for variant in VARIANTS for end in ("_s", "_median_s")]
    found: dict[str, float | None] = {name: sum(stage[name] or 0 for stage in stages) for name in names}
    found["ratio"] = (found["reference_s"] or 0) / (found["ours_s"] or 1)
    found["to_plain"] = (found["ours_s"] or 0) / (found["plain_s"] or 1)
    return found


def print_stages(numbers: dict[str, dict[str, float | None]]) -> None:
    """The table of both stages."""
    columns = {
        "plain_s": "plain s", "reference_s": "reference s", "ours_s": "ours s", "ratio": "ratio",
        "to_plain": "/ plain", "images_per_s": "images/s", "plain_peak_mb": "plain MB",
        "reference_peak_mb": "reference MB", "peak_mb": "MB",
    }  # fmt: skip
    rows = [[stage, *(found.get(field) for field in columns)] for stage, found in numbers.items()]
    print_table(["stage", *columns.values()], rows)


def main() -> None:
    parser = base_parser(__doc__)
    parser.add_numerics(compiled=False)
    parser.set_defaults(repeats=1)
    parser.add_argument(
        "--images", type=int, default=6, help="real images, two thirds of them of the class that init uses"
    )
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=3, help="of statistics")
    parser.add_argument("--crops", type=int, default=2, help="of each image that init scores")
    parser.add_argument("--observers", nargs="+", default=list(OBSERVERS))
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="times alone")
    options = parser.parse_args()
    facts = {
        **provenance(options.device), "images": options.images, "image_size": options.image_size,
        "batch_size": options.batch_size, "crops": options.crops, "observers": options.observers,
        "repeats": options.repeats,
    }  # fmt: skip
    numbers: dict[str, dict[str, float | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files, options.folder = write_images(Path(folder), options), folder
        context, labels = opened(Path(folder), options), [int(path.parent.name) for path in files]
        networks = list(networks_of(options).values())
        stages = {"statistics": (statistics_steps, len(files)), "init": (init_steps, labels.count(0))}
        with Remote(ours_of, options) as remote:
            for stage, (steps_of, images) in stages.items():
                steps = steps_of(context, networks, files, labels)
                numbers[stage] = measured(stage, steps, remote, images, options)
    numbers["both"] = together(numbers["statistics"], numbers["init"])
    print_stages(numbers)
    print_medians("stage", numbers, VARIANTS)
    print_facts(facts)
    if options.json:
        print_json({**numbers, "provenance": facts})


if __name__ == "__main__":
    main()
