"""How far the steps of each stage are from what this machine could do at best.

    python benchmarks/bench_floor.py [--batch-size 8] [--image-size 224] [--small-image-size 32]

What is counted and how the floor is made of it stands in floor.py: convolutions and products alone, each of
their operands and results moved once. A student's step also moves what its optimiser and its averages hold
(AdamW reads parameter, gradient and two moments and writes three of them; the average is read and written),
and views their bytes and their float32 pixels. The measured step has everything else too: BatchNorm and
activations, statistics, losses, drawing and cutting of views.

    recover     forward, statistics, backward to the images, by the kernels of a run: each observer
    statistics  forward, the layers' moments of each image, sums by class: each observer
    relabel     views cut and mixed from bytes, forward: ConvNet W32 and ResNet-18 for small images
    evaluate    the same views, forward, backward, AdamW and averages: the same networks

The JSON object holds for each step flops, bytes, compute_s, memory_s, floor_s, ours_s and share, and under
"machine" the measured peaks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from bench_recover_step import IMAGENET_OBSERVERS, NUM_CLASSES, images_of, network_of, steps_of
from floor import Machine, Operation, measured_machine, operations_of
from harness import (
    base_parser,
    interleaved,
    print_facts,
    print_json,
    print_note,
    print_table,
    provenance,
)
from torch import Tensor, nn

from edc_ray.config.stages import EvaluateConfig
from edc_ray.core.accumulator import StatisticsAccumulator
from edc_ray.core.ema import EmaParameters
from edc_ray.core.fused_network import fused_network
from edc_ray.core.network_numerics import FLOAT32
from edc_ray.core.student_loss import mse_ce
from edc_ray.core.taps import LayerTaps
from edc_ray.core.views import ViewSettings, draw_epoch_views, render_views
from edc_ray.kernels.compiled import kernels_for
from edc_ray.kernels.compiled_views import view_kernel_for
from edc_ray.kernels.image_kernels import image_statistics_for
from edc_ray.models.observers import freeze
from edc_ray.models.registry import build_network
from edc_ray.stages.kept_memory import keep_freed_memory
from edc_ray.stages.training import make_optimizer

SMALL_NETWORKS = ("convnet_w32", "resnet18_small")
SMALL_CLASSES, SMALL_BATCH = 10, 50
_OF_A_PARAMETER = 4 * (4 + 3 + 2)
"""Bytes that AdamW and the averages move for each parameter."""


@dataclass(frozen=True)
class Step:
    """What is measured, what of it is counted, and what it moves besides."""

    ours: Callable[[], object]
    counted: Callable[[], object]
    moved: tuple[Operation, ...] = ()


def recover_step(name: str, options: argparse.Namespace) -> Step:
    steps = steps_of(name, options)
    return Step(steps.get("compiled", steps["ours"]), steps["plain"])


def statistics_step(name: str, options: argparse.Namespace) -> Step:
    images, _, labels = images_of(options)
    network, side = network_of(name, options), 16 if options.image_size > 64 else 4
    kernels, moments = kernels_for(options.device), image_statistics_for(options.device)
    fused = fused_network(network, "inputs", kernels, FLOAT32, torch.zeros_like(images[:1]))
    taps = LayerTaps(fused, kernels=kernels)

    @torch.no_grad()
    def ours() -> None:
        with taps.measuring_images(moments, side) as measured:
            fused(images.contiguous(memory_format=taps.kernels.memory_format))
        StatisticsAccumulator(taps.kinds, side).add_measured(measured, labels)

    return Step(ours, torch.no_grad()(lambda: network(images)))


def views_of(options: argparse.Namespace) -> tuple[Callable[[], Tensor], Operation]:
    """A batch of small views anew at each call, and the bytes that they are and are made of."""
    size = options.small_image_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (SMALL_BATCH, 3, size, size), generator=generator, dtype=torch.uint8)
    images = images.to(options.device)
    slots = [(index % SMALL_CLASSES, index // SMALL_CLASSES) for index in range(SMALL_BATCH)]
    kernel = view_kernel_for(options.device)

    def render() -> Tensor:
        views = draw_epoch_views(0, 0, slots, size, ViewSettings(mix_group=SMALL_BATCH))
        rows = np.arange(SMALL_BATCH)
        return render_views(images, views, rows, mean=(0.5,) * 3, std=(0.25,) * 3, kernel=kernel)

    return render, Operation("views", 0.0, images.numel() * (1.0 + 4.0))


def small_network(name: str, options: argparse.Namespace) -> nn.Module:
    size = options.small_image_size
    network = build_network(name, num_classes=SMALL_CLASSES, image_size=size, channels=3, seed=0)
    return network.to(options.device)


def relabel_step(name: str, options: argparse.Namespace) -> Step:
    network, (render, moved) = freeze(small_network(name, options)), views_of(options)
    views = render()
    return Step(torch.no_grad()(lambda: network(render())), torch.no_grad()(lambda: network(views)), (moved,))


def student_step(name: str, options: argparse.Namespace) -> Step:
    network, (render, moved) = small_network(name, options).train(), views_of(options)
    section = EvaluateConfig(students=(name,))
    optimizer, ema = make_optimizer(network, section), EmaParameters(network, section.ema_decay)
    views, labels = render(), torch.arange(SMALL_BATCH, device=options.device) % SMALL_CLASSES
    logits = torch.randn(SMALL_BATCH, SMALL_CLASSES, device=options.device)

    def backward(shown: Tensor) -> None:
        mse_ce(network(shown), logits, labels, ce_weight=section.ce_weight).backward()

    def ours() -> None:
        backward(render())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update()

    numbers = sum(parameter.numel() for parameter in network.parameters())
    held = Operation("optimiser", 0.0, float(_OF_A_PARAMETER * numbers))
    return Step(ours, partial(backward, views), (moved, held))


def measured(step: Step, machine: Machine, options: argparse.Namespace) -> dict[str, float]:
    """The numbers of one step, as the JSON object has them."""
    operations = [*operations_of(step.counted), *step.moved]
    seconds = interleaved({"ours": step.ours}, options.repeats, options.device)["ours"].minimum
    flops, moved = (sum(getattr(each, field) for each in operations) for field in ("flops", "bytes"))
    floor = machine.least_seconds(operations)
    return {
        "flops": flops, "bytes": moved, "compute_s": flops / machine.flops, "memory_s": moved / machine.bytes,
        "floor_s": floor, "ours_s": seconds, "share": floor / seconds,
    }  # fmt: skip


def main() -> None:
    parser = base_parser(__doc__)
    parser.add_argument("--batch-size", type=int, default=8, help="of recover and statistics")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--small-image-size", type=int, default=32, help="of relabel and evaluate")
    parser.add_argument("--observers", nargs="+", default=list(IMAGENET_OBSERVERS))
    parser.set_short(repeats=2)
    options = parser.parse_args()
    keep_freed_memory()
    facts = {
        **provenance(options.device), "batch_size": options.batch_size, "image_size": options.image_size,
        "small_batch_size": SMALL_BATCH, "small_image_size": options.small_image_size,
        "classes": NUM_CLASSES, "repeats": options.repeats,
    }  # fmt: skip
    machine = measured_machine(options.device)
    stages = {
        "recover": (recover_step, options.observers), "statistics": (statistics_step, options.observers),
        "relabel": (relabel_step, SMALL_NETWORKS), "evaluate": (student_step, SMALL_NETWORKS),
    }  # fmt: skip
    numbers: dict[str, dict[str, float]] = {}
    for stage, (step_of, names) in stages.items():
        for name in names:
            numbers[f"{stage} {name}"] = measured(step_of(name, options), machine, options)
    header = ["step", "GFLOP", "MB", "arithmetic ms", "memory ms", "floor ms", "ours ms", "share of floor"]
    rows = [
        [name, each["flops"] / 1e9, each["bytes"] / 1e6]
        + [1e3 * each[field] for field in ("compute_s", "memory_s", "floor_s", "ours_s")]
        + [each["share"]]
        for name, each in numbers.items()
    ]
    print_table(header, rows)
    print_note(
        f"Machine: {machine.flops / 1e9:.1f} GFLOP/s in float32, {machine.bytes / 1e9:.1f} GB/s read and "
        f"written in copies. Batches of {options.batch_size} at {options.image_size} pixels (recover, "
        f"statistics) and of {SMALL_BATCH} at {options.small_image_size} (relabel, evaluate)."
    )
    print_facts(facts)
    if options.json:
        print_json({"steps": numbers, "machine": asdict(machine), "provenance": facts})


if __name__ == "__main__":
    main()
