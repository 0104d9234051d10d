"""How far the steps of each stage are from the best that this machine could do.

    python benchmarks/bench_floor.py [--batch-size 8] [--image-size 224] [--small-image-size 32]

floor.py explains the floor: it counts convolutions and products only, and moves each operand and result
once. Two things are added. A student's step also moves the data of its optimiser and its averages (AdamW
reads parameter, gradient and two moments, and writes three of them; the average is read and written). Views
move their bytes and their float32 pixels. The measured step includes everything else: BatchNorm and
activations, statistics, losses, drawing and cutting of views.

    recover     forward, statistics, backward to the images, by the kernels of a run: each observer
    statistics  forward, the layers' moments of each image, sums by class: each observer
    relabel     views cut and mixed from bytes, forward: ConvNet W32 and ResNet-18 for small images
    evaluate    the same views, forward, backward, AdamW and averages: the same networks

All steps compute as in a run with --precision and --compile (statistics are never compiled). The floor is
that of the precision. The JSON object holds for each step flops, bytes, compute_s, memory_s, floor_s,
ours_s, ours_median_s, share and peak_mb. "machine" holds the peaks behind the floor. "peaks" holds the
operations per second of every precision that the device has a unit for.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from bench_recover_step import IMAGENET_OBSERVERS, NUM_CLASSES, images_of, network_of, of_a_run, steps_of
from floor import Machine, Operation, chosen_operations_of, measured_flops, measured_machine
from harness import (
    base_parser,
    chosen_fused,
    chosen_network,
    chosen_numerics,
    in_chosen_precision,
    interleaved,
    peak_megabytes,
    print_facts,
    print_json,
    print_note,
    print_table,
    provenance,
)
from torch import Tensor, nn

from edc_ray.config.stages import EvaluateConfig
from edc_ray.core.layers.accumulator import StatisticsAccumulator
from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.students.ema import EmaParameters
from edc_ray.core.students.student_loss import LossOptions, mse_ce
from edc_ray.core.views.views import ViewSettings, draw_epoch_views, render_views
from edc_ray.kernels.cpu.statistics import image_statistics_for, kernels_for
from edc_ray.kernels.cpu.views import view_kernel_for
from edc_ray.models.observers import freeze
from edc_ray.models.registry import build_network
from edc_ray.stages.units.numerics import keep_freed_memory
from edc_ray.stages.units.training import make_optimizer
from edc_ray.stages.units.training_step import TrainingStep

SMALL_NETWORKS = ("convnet_w32", "resnet18_small")
SMALL_CLASSES = 10
_OF_A_PARAMETER = 4 * (4 + 3 + 2)
"""Bytes that AdamW and the averages move for each parameter."""


@dataclass(frozen=True)
class Step:
    """A measured call, the part of it that is counted, and the bytes that it moves besides."""

    ours: Callable[[], object]
    counted: Callable[[], object]
    moved: tuple[Operation, ...] = ()


def recover_step(name: str, options: argparse.Namespace) -> Step:
    steps = steps_of(name, options)
    return Step(steps[of_a_run(steps)], steps["plain"])


def statistics_step(name: str, options: argparse.Namespace) -> Step:
    images, _, labels = images_of(options)
    network = chosen_network(network_of(name, options), options)
    side = 16 if options.image_size > 64 else 4
    numerics = chosen_numerics(options, compiled=False)
    fused = chosen_fused(network, "inputs", options, options.image_size)
    taps = LayerTaps(fused, kernels=kernels_for(options.device, numerics.memory_format))
    moments, forward = image_statistics_for(options.device), numerics.forward(fused)

    @torch.no_grad()
    def ours() -> None:
        with taps.measuring_images(moments, side) as measured:
            forward(images.contiguous(memory_format=taps.kernels.memory_format))
        StatisticsAccumulator(taps.kinds, side).add_measured(measured, labels)

    return Step(ours, torch.no_grad()(lambda: network(images)))


def views_of(options: argparse.Namespace) -> tuple[Callable[[], Tensor], Operation]:
    """A function that makes a batch of small views, and the bytes of the views and of their images."""
    size, count = options.small_image_size, options.small_batch_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    images = images.to(options.device)
    slots = [(index % SMALL_CLASSES, index // SMALL_CLASSES) for index in range(count)]
    kernel = view_kernel_for(options.device)

    def render() -> Tensor:
        views = draw_epoch_views(0, 0, slots, size, ViewSettings(mix_group=count))
        rows = np.arange(count)
        return render_views(images, views, rows, mean=(0.5,) * 3, std=(0.25,) * 3, kernel=kernel)

    return render, Operation("views", 0.0, images.numel() * (1.0 + 4.0))


def small_network(name: str, options: argparse.Namespace) -> nn.Module:
    size = options.small_image_size
    network = build_network(name, num_classes=SMALL_CLASSES, image_size=size, channels=3, seed=0)
    return chosen_network(network, options)


def relabel_step(name: str, options: argparse.Namespace) -> Step:
    network, (render, moved) = freeze(small_network(name, options)), views_of(options)
    views = render()
    fused = chosen_fused(network, "results", options, views.shape[-1])
    forward = chosen_numerics(options).forward(fused)
    return Step(torch.no_grad()(lambda: forward(render())), torch.no_grad()(lambda: network(views)), (moved,))


def student_step(name: str, options: argparse.Namespace) -> Step:
    network, (render, moved) = small_network(name, options).train(), views_of(options)
    section = EvaluateConfig(students=(name,))
    numerics, ema, views = chosen_numerics(options), EmaParameters(network, section.ema_decay), render()
    labels = torch.arange(len(views), device=options.device) % SMALL_CLASSES
    logits = torch.randn(len(views), SMALL_CLASSES, device=options.device)

    loss_options = LossOptions(temperature=section.temperature, ce_weight=section.ce_weight)

    def loss_of(shown_logits: Tensor) -> Tensor:
        return mse_ce(shown_logits, logits, labels, loss_options)

    forward, total = numerics.forward(network), torch.zeros((), device=options.device)
    train_step = TrainingStep(
        make_optimizer(network, section), lambda shown: loss_of(forward(shown)), options.device,
        numerics.dtype, after=ema.update,
    )  # fmt: skip

    def ours() -> None:
        train_step([((render(),), 1.0)], total)

    numbers = sum(parameter.numel() for parameter in network.parameters())
    held = Operation("optimiser", 0.0, float(_OF_A_PARAMETER * numbers))
    return Step(ours, lambda: loss_of(network(views)).backward(), (moved, held))


def measured(step: Step, machine: Machine, options: argparse.Namespace) -> dict[str, float | None]:
    """The numbers of one step, as the JSON object has them."""
    operations = [*chosen_operations_of(step.counted, options), *step.moved]
    ours = in_chosen_precision(step.ours, options)
    timing = interleaved({"ours": ours}, options.repeats, options.device)["ours"]
    flops, moved = (sum(getattr(each, field) for each in operations) for field in ("flops", "bytes"))
    floor = machine.least_seconds(operations)
    return {
        "flops": flops, "bytes": moved, "compute_s": flops / machine.flops, "memory_s": moved / machine.bytes,
        "floor_s": floor, "ours_s": timing.minimum, "ours_median_s": timing.median,
        "share": floor / timing.minimum, "peak_mb": peak_megabytes(ours, options.device),
    }  # fmt: skip


def measured_peaks(machine: Machine, options: argparse.Namespace) -> dict[str, float]:
    """Operations per second, in the precision of the run and in the others that the device has units for."""
    others = ("float32", "tf32", "bfloat16", "float16") if options.device.type == "cuda" else ("float32",)
    peaks = {each: measured_flops(options.device, each) for each in others if each != options.precision}
    return peaks | {options.precision: machine.flops}


def print_steps(numbers: dict[str, dict[str, Any]]) -> None:
    """The table of all steps."""
    header = ["step", "GFLOP", "MB", "arithmetic ms", "memory ms", "floor ms", "ours ms", "median ms",
              "share of floor", "peak MB"]  # fmt: skip
    milliseconds = ("compute_s", "memory_s", "floor_s", "ours_s", "ours_median_s")
    rows = [
        [name, each["flops"] / 1e9, each["bytes"] / 1e6, *(1e3 * each[field] for field in milliseconds),
         each["share"], each["peak_mb"]]
        for name, each in numbers.items()
    ]  # fmt: skip
    print_table(header, rows)


def main() -> None:
    parser = base_parser(__doc__)
    parser.add_numerics()
    parser.add_argument("--batch-size", type=int, default=8, help="of recover and statistics")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--small-batch-size", type=int, default=50, help="of relabel and evaluate")
    parser.add_argument("--small-image-size", type=int, default=32, help="of relabel and evaluate")
    parser.add_argument("--students", nargs="+", default=list(SMALL_NETWORKS))
    parser.add_argument("--observers", nargs="+", default=list(IMAGENET_OBSERVERS))
    parser.set_defaults(classes=NUM_CLASSES)
    parser.set_short(repeats=2)
    options = parser.parse_args()
    keep_freed_memory()
    facts = {
        **provenance(options.device), "batch_size": options.batch_size, "image_size": options.image_size,
        "small_batch_size": options.small_batch_size, "small_image_size": options.small_image_size,
        "classes": NUM_CLASSES, "repeats": options.repeats,
    }  # fmt: skip
    machine = measured_machine(options.device, options.precision)
    stages = {
        "recover": (recover_step, options.observers), "statistics": (statistics_step, options.observers),
        "relabel": (relabel_step, options.students), "evaluate": (student_step, options.students),
    }  # fmt: skip
    numbers: dict[str, dict[str, float | None]] = {}
    for stage, (step_of, names) in stages.items():
        for name in names:
            numbers[f"{stage} {name}"] = measured(step_of(name, options), machine, options)
    print_steps(numbers)
    peaks = measured_peaks(machine, options)
    print_table(["peak", "GFLOP/s"], [[name, flops / 1e9] for name, flops in peaks.items()])
    print_note(
        f"Machine: {machine.flops / 1e9:.1f} GFLOP/s in {options.precision}, {machine.bytes / 1e9:.1f} GB/s "
        f"read and written in copies. Batches of {options.batch_size} at {options.image_size} pixels "
        f"(recover, statistics), of {options.small_batch_size} at {options.small_image_size} "
        "(relabel, evaluate)."
    )
    print_facts(facts)
    if options.json:
        print_json({"steps": numbers, "machine": asdict(machine), "peaks": peaks, "provenance": facts})


if __name__ == "__main__":
    main()
