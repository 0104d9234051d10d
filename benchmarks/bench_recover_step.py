"""One step of recover: forward, cross entropy, statistic matching, backward to the images.

    python benchmarks/bench_recover_step.py [--batch-size 20] [--image-size 224] [--observers NAME ...]

Observers, images and targets are random; the time depends on none of them. The variants:

    plain      cross entropy alone, float32, NCHW: the cost of the network without any matching
    reference  with matching, the straightforward way (reference/layer_matching.py)
    ours       with matching, in torch's operations, as on a machine without a compiler
    compiled   with matching, by the kernels of a C++ compiler, if there is one
    chosen     as in a run with --precision and --compile, if these are not float32 without a compiler;
               replayed where a run captures it (--compile auto on a GPU)
    replayed   plain, replayed in the same precision: what the network costs without the host

The ratios are to plain. Memory is what a step needs at most beyond what is in use before it. The share of
the floor is that of the fastest of ours in float32, and of chosen in its own precision (floor.py:
convolutions and products alone).

The benchmark also measures the whole loop (`recover_images`: view, step, Adam, clipping) as in a run with
these choices, with each observer alone and with all in turn. From it follow the seconds of a condensed
image, for a set of --ipc images for each of --classes, on one device that does nothing else:

    batches x iterations x seconds of an iteration / images

The JSON object holds, for each observer and in sum under "total": plain_s, reference_s, ours_s,
ours_compiled_s, ours_chosen_s (minima; medians end in _median_s), floor_s, floor_share, chosen_floor_s,
chosen_floor_share, and peak_mb, plain_peak_mb, reference_peak_mb (their largest in "total"; peak_mb is that
of the fastest of ours in float32). "loop" holds iteration_s, condensed_image_s, set_s, iterations, ipc,
classes, batches and peak_mb; its "observers" hold iteration_ms, iteration_median_ms and peak_mb of each.
gpu.py has the sizes for a GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from floor import Machine, chosen_operations_of, measured_flops, measured_machine, operations_of
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
    print_medians,
    print_note,
    print_table,
    provenance,
)
from reference.layer_matching import hooked
from torch import Tensor, nn

from edc_ray.core.captured_step import CapturedStep
from edc_ray.core.layers.network_numerics import FLOAT32
from edc_ray.core.recover.local_targets import local_class_targets
from edc_ray.core.recover.loop import recover_images
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.core.recover.observer_matching import ObserverMatcher
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.core.recover.state import LoopState, Observer
from edc_ray.core.seeding import draws
from edc_ray.kernels.cpu.fused_network import fused_network, trial_images
from edc_ray.kernels.cpu.statistics import CompiledKernels, compiled_kernels, kernels_for
from edc_ray.kernels.cuda.availability import captured_recover_for
from edc_ray.models.observers import freeze
from edc_ray.models.registry import build_network

IMAGENET_OBSERVERS = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet")
NUM_CLASSES = 1000
IN_TURN = "all in turn"
_FLOOR = {
    "floor_s": "floor s", "floor_share": "its share",
    "chosen_floor_s": "chosen's floor s", "chosen_floor_share": "chosen's share",
}  # fmt: skip
VARIANTS = {
    "plain": "plain", "reference": "reference", "ours": "ours", "compiled": "ours_compiled",
    "chosen": "ours_chosen", "replayed": "plain_replayed",
}  # fmt: skip


def images_of(options: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor]:
    """Images, others whose statistics are the targets, and labels."""
    shape = (options.batch_size, 3, options.image_size, options.image_size)
    generator = torch.Generator().manual_seed(0)
    images, others = (torch.randn(shape, generator=generator).to(options.device) for _ in range(2))
    return images, others, torch.randint(options.classes, shape[:1], generator=generator).to(options.device)


def network_of(name: str, options: argparse.Namespace) -> nn.Module:
    sizes = {"num_classes": options.classes, "image_size": options.image_size, "channels": 3, "seed": 0}
    return freeze(build_network(name, **sizes).to(options.device))


SETTINGS = RecoverSettings(estimate_start="zero", matching_weight=0.1)


def patch_side_of(options: argparse.Namespace) -> int:
    return 16 if options.image_size > 64 else 4


def steps_of(name: str, options: argparse.Namespace) -> dict[str, Callable[[], Tensor]]:
    """A function for each variant, which makes one step and gives the images' gradient.

    Args:
        name: of the observer.
        options: batch_size, image_size, classes, device, precision and compile.
    """
    device, (images, others, labels) = options.device, images_of(options)
    network, settings, patch_side = network_of(name, options), SETTINGS, patch_side_of(options)
    plain = Observer.of(name, network)
    local = local_class_targets([plain], others, patch_side)[name]
    targets = {layer: LayerTarget(each) for layer, each in local.items()}

    def gradient(forward: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = images.detach().requires_grad_()
        return torch.autograd.grad(forward(leaf), leaf)[0]

    def ours(observer: Observer) -> Callable[[], Tensor]:
        matcher = ObserverMatcher(observer, targets, labels, settings, images, class_targets=local)

        def forward(leaf: Tensor) -> Tensor:
            logits, statistics = observer.measured(leaf, patch_side)
            matching, _ = matcher.observe(statistics)
            return F.cross_entropy(logits, labels) + settings.matching_weight * matching

        return lambda: gradient(forward)

    def reference() -> Tensor:
        terms = {layer: [(0.5, list(each.quantities))] * 2 for layer, each in local.items()}
        hooks = hooked(network, patch_side, settings.statistic_momentum, terms)

        def forward(leaf: Tensor) -> Tensor:
            logits = network(leaf)
            first, *rest = [hook.loss for hook in hooks]
            matching = settings.first_multiplier * first + torch.stack(rest).sum()
            return F.cross_entropy(logits, labels) + settings.matching_weight * matching

        try:
            return gradient(forward)
        finally:
            for hook in hooks:
                hook.close()

    steps: dict[str, Callable[[], Tensor]] = {
        "plain": lambda: gradient(lambda leaf: F.cross_entropy(network(leaf), labels)),
        "reference": reference,
        "ours": ours(plain),
    }
    kernels = compiled_kernels() if device.type == "cpu" else "not for this device"
    if isinstance(kernels, CompiledKernels):
        trial = trial_images(3, options.image_size, device)
        fused = fused_network(network, "gradients", kernels, FLOAT32, trial)
        steps["compiled"] = ours(Observer.of(name, fused, kernels=kernels))
    if is_chosen(options):
        observer = chosen_observer(name, options)
        steps["chosen"] = replayed(in_chosen_precision(ours(observer), options), options)
    if is_captured(options):
        forward = chosen_numerics(options).forward(chosen_network(network_of(name, options), options))
        alone = partial(gradient, lambda leaf: F.cross_entropy(forward(leaf), labels))
        steps["replayed"] = replayed(in_chosen_precision(alone, options), options)
    return steps


def is_captured(options: argparse.Namespace) -> bool:
    """Whether a run is to capture its iterations."""
    return options.compile == "auto" and options.device.type == "cuda"


def replayed(run: Callable[[], Tensor], options: argparse.Namespace) -> Callable[[], Tensor]:
    """A call as a run makes it: recorded and replayed, or as it is."""
    if not is_captured(options):
        return run
    found: list[Tensor] = []

    def keep() -> None:
        found[:] = [run()]

    step = CapturedStep(keep, options.device)

    def call() -> Tensor:
        step()
        return found[0]

    return call


def is_chosen(options: argparse.Namespace) -> bool:
    """Whether a run computes in another way than in float32 without a compiler."""
    return (options.precision, options.compile) != ("float32", "none")


def of_a_run(steps: dict[str, Callable[[], Tensor]]) -> str:
    """The variant that a run uses on this machine."""
    return next(each for each in ("chosen", "compiled", "ours") if each in steps)


def chosen_observer(name: str, options: argparse.Namespace) -> Observer:
    """As a run with `precision` and `compile` has it."""
    numerics = chosen_numerics(options)
    kernels = kernels_for(options.device, numerics.memory_format)
    network = chosen_network(network_of(name, options), options)
    fused = chosen_fused(network, "gradients", options, options.image_size)
    return Observer.of(name, fused, kernels=kernels, numerics=numerics)


def loop_of(
    observers: list[Observer], options: argparse.Namespace, rounds: int = 1
) -> Callable[[], LoopState]:
    """Iterations of the whole loop, `rounds` with each observer, as in a run on this machine."""
    images, others, labels = images_of(options)
    patch_side = patch_side_of(options)
    local = local_class_targets(observers, others, patch_side)
    targets = {
        name: {layer: LayerTarget(each) for layer, each in layers.items()} for name, layers in local.items()
    }
    bounds: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3}

    captured = captured_recover_for(options.device) if is_captured(options) else None

    def run() -> LoopState:
        return recover_images(
            LoopState.start(images), labels, observers, targets, SETTINGS, patch_side=patch_side, **bounds,
            local_targets=local, draws=lambda iteration: draws(0, "bench", iteration),
            until=rounds * len(observers),
            captured=captured,
        )  # fmt: skip

    return in_chosen_precision(run, options)


def measured_loop(options: argparse.Namespace) -> dict[str, Any]:
    """The numbers of the whole loop: of each observer alone, and of all in turn."""
    observers, rounds = [chosen_observer(name, options) for name in options.observers], options.rounds
    runs = {each.name: loop_of([each], options, rounds) for each in observers}
    runs[IN_TURN] = loop_of(observers, options, rounds)
    timings = interleaved(runs, options.repeats, options.device)
    peaks = {name: peak_megabytes(run, options.device) for name, run in runs.items()}
    whole = timings[IN_TURN]
    iteration = whole.minimum / (rounds * len(observers))
    images = options.ipc * options.classes
    batches = -(-images // options.batch_size)
    return {
        "iteration_s": iteration,
        "iteration_median_s": whole.median / (rounds * len(observers)),
        "condensed_image_s": batches * options.iterations * iteration / images,
        "set_s": batches * options.iterations * iteration,
        "iterations": options.iterations, "ipc": options.ipc, "classes": options.classes,
        "batches": batches, "peak_mb": peaks[IN_TURN],
        "observers": {
            name: {"iteration_ms": 1e3 * timings[name].minimum / rounds,
                   "iteration_median_ms": 1e3 * timings[name].median / rounds, "peak_mb": peaks[name]}
            for name in options.observers
        },
    }  # fmt: skip


def print_loop(loop: dict[str, Any], options: argparse.Namespace) -> None:
    """The table of the whole loop, and what a set takes."""
    rows = [
        [name, each["iteration_ms"], each["iteration_median_ms"], None, each["peak_mb"]]
        for name, each in loop["observers"].items()
    ]
    all_in_turn = [1e3 * loop["iteration_s"], 1e3 * loop["iteration_median_s"], loop["condensed_image_s"]]
    rows.append([IN_TURN, *all_in_turn, loop["peak_mb"]])
    print_table(["whole loop", "ms an iteration", "median ms", "s a condensed image", "MB"], rows)
    print_note(
        f"{loop['ipc']} images for each of {loop['classes']} classes: {loop['batches']} batches of "
        f"{options.batch_size}, {loop['iterations']} iterations each, {loop['set_s'] / 3600:.2f} hours of "
        f"one device, in {options.precision}, compile {options.compile}."
    )


def measured(
    name: str, options: argparse.Namespace, machine: Machine, chosen: Machine
) -> dict[str, float | None]:
    """The numbers of one observer, as the JSON object has them.

    Args:
        name: of the observer.
        options: of the command line.
        machine: its peaks in float32.
        chosen: its peaks in the precision of a run.
    """
    steps = steps_of(name, options)
    floor = machine.least_seconds(operations_of(steps["plain"]))
    timings = interleaved(steps, options.repeats, options.device)
    found: dict[str, float | None] = {}
    for variant, timing in timings.items():
        found[f"{VARIANTS[variant]}_s"] = timing.minimum
        found[f"{VARIANTS[variant]}_median_s"] = timing.median
    for variant, step in steps.items():
        found[f"{VARIANTS[variant]}_peak_mb"] = peak_megabytes(step, options.device)
    fastest = "ours_compiled" if "compiled" in steps else "ours"
    found |= {"floor_s": floor, "floor_share": floor / timings[fastest.removeprefix("ours_")].minimum}
    if "chosen" in steps:
        floor = chosen.least_seconds(chosen_operations_of(steps["plain"], options))
        found |= {"chosen_floor_s": floor, "chosen_floor_share": floor / timings["chosen"].minimum}
    return found | {"peak_mb": found[f"{fastest}_peak_mb"]}


def total_of(parts: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Seconds are added; of the peaks the largest counts."""
    total: dict[str, float | None] = {}
    for field in parts[0]:
        values = [value for part in parts if (value := part[field]) is not None]
        total[field] = (sum(values) if field.endswith("_s") else max(values)) if values else None
    fastest = total.get("ours_compiled_s") or total["ours_s"]
    for prefix, seconds in (("", fastest), ("chosen_", total.get("ours_chosen_s"))):
        if seconds is not None:
            total[f"{prefix}floor_share"] = (total[f"{prefix}floor_s"] or 0) / seconds
    return total


def row_of(name: str, numbers: dict[str, Any]) -> list[object]:
    variants = [each for each in VARIANTS.values() if f"{each}_s" in numbers]
    row: list[object] = [name, numbers["plain_s"]]
    for each in variants[1:]:
        row += [numbers[f"{each}_s"], numbers[f"{each}_s"] / numbers["plain_s"]]
    row += [numbers[each] for each in _FLOOR if each in numbers]
    peaks = [numbers[f"{each}_peak_mb"] for each in variants]
    return row + [None if peak is None else round(peak) for peak in peaks]


def print_numbers(numbers: dict[str, dict[str, float | None]]) -> None:
    """The table of what has been measured so far."""
    last = list(numbers.values())[-1]
    variants = [each for each in VARIANTS.values() if f"{each}_s" in last]
    header = ["observer", "plain s"]
    for each in variants[1:]:
        header += [f"{each} s", "ratio"]
    header += [title for each, title in _FLOOR.items() if each in last]
    header += [f"{each} MB" for each in variants]
    print_table(header, [row_of(each, found) for each, found in numbers.items()])


def parsed() -> argparse.Namespace:
    parser = base_parser(__doc__)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--observers", nargs="+", default=list(IMAGENET_OBSERVERS))
    parser.add_numerics()
    parser.add_argument("--ipc", type=int, default=10, help="of the set; not run here")
    parser.add_argument("--classes", type=int, default=NUM_CLASSES, help="of the set and of the observers")
    parser.add_argument("--iterations", type=int, default=1000, help="of a whole recover; not run here")
    parser.add_argument(
        "--rounds", type=int, default=1, help="iterations with each observer in a timed call of the loop"
    )
    parser.set_short(batch_size=8, repeats=2)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    # Before the first step: the code on disk may change while this runs.
    facts = {
        **provenance(options.device), "batch_size": options.batch_size, "image_size": options.image_size,
        "classes": options.classes, "repeats": options.repeats, "rounds": options.rounds,
    }  # fmt: skip
    machine = measured_machine(options.device)
    chosen = machine
    if options.precision != "float32":
        chosen = replace(machine, flops=measured_flops(options.device, options.precision))
    numbers: dict[str, dict[str, float | None]] = {}
    for name in options.observers:
        numbers[name] = measured(name, options, machine, chosen)
        print_numbers(numbers)
        print()
    numbers["total"] = total_of(list(numbers.values()))
    print_numbers(numbers)
    print_medians("observer", numbers, list(VARIANTS.values()))
    loop = measured_loop(options)
    print_loop(loop, options)
    other = "" if chosen is machine else f", {chosen.flops / 1e9:.1f} in {options.precision}"
    print_note(
        f"Floor: {machine.flops / 1e9:.1f} GFLOP/s in float32{other}, and {machine.bytes / 1e9:.1f} GB/s in "
        "copies, measured in this run."
    )
    print_facts(facts)
    if options.json:
        floors = {"floor": asdict(machine), "chosen_floor": asdict(chosen)}
        print_json({**numbers, "loop": loop, **floors, "provenance": facts})


if __name__ == "__main__":
    main()
