"""One step of recover: forward, cross entropy, statistic matching, backward to the images.

    python benchmarks/bench_recover_step.py [--batch-size 20] [--image-size 224] [--observers NAME ...]

Randomly initialised observers, images and targets; the time depends on neither. The variants:

    plain      cross entropy alone, float32, NCHW: what the network costs without any matching
    reference  with matching, the straightforward way (reference/layer_matching.py)
    ours       with matching, in torch's operations, as where there is no compiler
    compiled   with matching, by the kernels that a C++ compiler makes, where there is one
    chosen     as a run with --precision and --compile has it, where these are given; all others are float32

The ratios are to plain. Memory is what a step needs at most beyond what is there before it. The share of the
floor is that of the fastest of ours (floor.py: convolutions and products alone).

Beside the steps the whole loop (`recover_images`: view, step, Adam, clipping) with the observers in turn, and
from it the seconds of a condensed image:

    iterations x seconds of an iteration / batch size, of one device that does nothing else

The JSON object holds, for each observer and in sum under "total": plain_s, reference_s, ours_s,
ours_compiled_s, ours_chosen_s (minima; medians end in _median_s), floor_s, floor_share and peak_mb,
plain_peak_mb, reference_peak_mb (their largest in "total"; peak_mb is that of the fastest of ours). Under
"loop": iteration_s, condensed_image_s, iterations, peak_mb. On a GPU:
--device cuda --batch-size 80 --repeats 20.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from floor import Machine, measured_machine, operations_of
from harness import (
    base_parser,
    interleaved,
    peak_megabytes,
    print_facts,
    print_json,
    print_note,
    print_table,
    provenance,
)
from reference.layer_matching import hooked
from torch import Tensor, nn

from edc_ray.config.load import load_recipe
from edc_ray.core.fused_network import fused_network
from edc_ray.core.local_targets import local_class_targets
from edc_ray.core.matching import LayerTarget
from edc_ray.core.measured_input import StatisticKernels
from edc_ray.core.network_numerics import FLOAT32, NetworkNumerics
from edc_ray.core.observer_matching import ObserverMatcher
from edc_ray.core.recover_loop import recover_images
from edc_ray.core.recover_state import LoopState, Observer, RecoverSettings
from edc_ray.core.seeding import draws
from edc_ray.kernels.compiled import CompiledKernels, compiled_kernels, kernels_for
from edc_ray.models.observers import freeze
from edc_ray.models.registry import build_network
from edc_ray.stages.network_numerics import network_numerics

IMAGENET_OBSERVERS = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet")
NUM_CLASSES = 1000
VARIANTS = {
    "plain": "plain", "reference": "reference", "ours": "ours", "compiled": "ours_compiled",
    "chosen": "ours_chosen",
}  # fmt: skip


def images_of(options: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor]:
    """Images, others whose statistics are the targets, and labels."""
    shape = (options.batch_size, 3, options.image_size, options.image_size)
    generator = torch.Generator().manual_seed(0)
    images, others = (torch.randn(shape, generator=generator).to(options.device) for _ in range(2))
    return images, others, torch.randint(NUM_CLASSES, shape[:1], generator=generator).to(options.device)


def network_of(name: str, options: argparse.Namespace) -> nn.Module:
    network = build_network(name, num_classes=NUM_CLASSES, image_size=options.image_size, channels=3, seed=0)
    return freeze(network.to(options.device))


def settings_of(options: argparse.Namespace) -> RecoverSettings:
    return RecoverSettings(estimate_start="zero", patch_side=16 if options.image_size > 64 else 4)


def steps_of(
    name: str, options: argparse.Namespace, *, chosen: bool = False
) -> dict[str, Callable[[], Tensor]]:
    """A function for each variant, which makes one step and gives the images' gradient.

    Args:
        name: of the observer.
        options: batch_size, image_size, device, and with `chosen` precision and compile.
        chosen: whether that variant is wanted.
    """
    device, (images, others, labels) = options.device, images_of(options)
    network, settings = network_of(name, options), settings_of(options)
    plain = Observer.of(name, network)
    local = local_class_targets([plain], others, settings.patch_side)[name]
    targets = {layer: LayerTarget(each) for layer, each in local.items()}

    def gradient(forward: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = images.detach().requires_grad_()
        return torch.autograd.grad(forward(leaf), leaf)[0]

    def ours(observer: Observer) -> Callable[[], Tensor]:
        matcher = ObserverMatcher(observer, targets, labels, settings, images, class_targets=local)

        def forward(leaf: Tensor) -> Tensor:
            logits, statistics = observer.measured(leaf, settings.patch_side)
            matching, _ = matcher.observe(statistics)
            return F.cross_entropy(logits, labels) + settings.matching_weight * matching

        return lambda: gradient(forward)

    def reference() -> Tensor:
        terms = {layer: [(0.5, list(each.quantities))] * 2 for layer, each in local.items()}
        hooks = hooked(network, settings.patch_side, settings.statistic_momentum, terms)

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
        steps["compiled"] = ours(fused_observer(name, network, options, kernels))
    if chosen:
        steps["chosen"] = in_tf32(ours(chosen_observer(name, network, options)), options)
    return steps


def chosen_observer(name: str, network: nn.Module, options: argparse.Namespace) -> Observer:
    """As a run with `precision` and `compile` has it."""
    config = load_recipe("imagenet10", [f"precision={options.precision}", f"compile={options.compile}"])
    numerics = network_numerics(config, options.device)
    kernels = kernels_for(options.device, numerics.memory_format)
    return fused_observer(name, network, options, kernels, numerics)


def fused_observer(
    name: str,
    network: nn.Module,
    options: argparse.Namespace,
    kernels: StatisticKernels,
    numerics: NetworkNumerics = FLOAT32,
) -> Observer:
    """An observer as recover has it."""
    image = torch.zeros(1, 3, options.image_size, options.image_size, device=options.device)
    fused = fused_network(network, "gradients", kernels, numerics, image)
    return Observer.of(name, fused, kernels=kernels, numerics=numerics)


def in_tf32(step: Callable[[], Tensor], options: argparse.Namespace) -> Callable[[], Tensor]:
    """The step alone may round the factors of products, if that is the precision."""

    def run() -> Tensor:
        before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        allowed = options.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
        try:
            return step()
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before

    return run


def loop_of(names: list[str], options: argparse.Namespace) -> Callable[[], LoopState]:
    """One iteration of the whole loop with each observer, by the kernels that a run takes here."""
    images, others, labels = images_of(options)
    settings, kernels = settings_of(options), kernels_for(options.device)
    observers = [fused_observer(name, network_of(name, options), options, kernels) for name in names]
    local = local_class_targets(observers, others, settings.patch_side)
    targets = {
        name: {layer: LayerTarget(each) for layer, each in layers.items()} for name, layers in local.items()
    }
    bounds: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    return lambda: recover_images(
        LoopState.start(images), labels, observers, targets, settings, **bounds, local_targets=local,
        draws=lambda iteration: draws(0, "bench", iteration), until=len(observers),
    )  # fmt: skip


def measured_loop(options: argparse.Namespace) -> dict[str, float | None]:
    """The numbers of the whole loop."""
    run = loop_of(options.observers, options)
    seconds = interleaved({"loop": run}, options.repeats, options.device)["loop"].minimum
    iteration = seconds / len(options.observers)
    return {
        "iteration_s": iteration,
        "condensed_image_s": options.iterations * iteration / options.batch_size,
        "iterations": options.iterations,
        "peak_mb": peak_megabytes(run, options.device),
    }


def measured(name: str, options: argparse.Namespace, machine: Machine) -> dict[str, float | None]:
    """The numbers of one observer, as the JSON object has them."""
    chosen = (options.precision, options.compile) != ("float32", "none")
    steps = steps_of(name, options, chosen=chosen)
    floor = machine.least_seconds(operations_of(steps["plain"]))
    timings = interleaved(steps, options.repeats, options.device)
    found: dict[str, float | None] = {}
    for variant, timing in timings.items():
        found[f"{VARIANTS[variant]}_s"] = timing.minimum
        found[f"{VARIANTS[variant]}_median_s"] = timing.median
    for variant, step in steps.items():
        found[f"{VARIANTS[variant]}_peak_mb"] = peak_megabytes(step, options.device)
    fastest = "ours_compiled" if "compiled" in steps else "ours"
    share = {"floor_s": floor, "floor_share": floor / timings[fastest.removeprefix("ours_")].minimum}
    return {**found, **share, "peak_mb": found[f"{fastest}_peak_mb"]}


def total_of(parts: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Seconds add up; of the peaks the largest counts."""
    total: dict[str, float | None] = {}
    for field in parts[0]:
        values = [value for part in parts if (value := part[field]) is not None]
        total[field] = (sum(values) if field.endswith("_s") else max(values)) if values else None
    fastest, floor = total.get("ours_compiled_s") or total["ours_s"], total["floor_s"]
    assert fastest is not None
    assert floor is not None
    return total | {"floor_share": floor / fastest}


def row_of(name: str, numbers: dict[str, Any]) -> list[object]:
    variants = [each for each in VARIANTS.values() if f"{each}_s" in numbers]
    row: list[object] = [name, numbers["plain_s"]]
    for each in variants[1:]:
        row += [numbers[f"{each}_s"], numbers[f"{each}_s"] / numbers["plain_s"]]
    row += [numbers["floor_s"], numbers["floor_share"]]
    peaks = [numbers[f"{each}_peak_mb"] for each in variants]
    return row + [None if peak is None else round(peak) for peak in peaks]


def print_numbers(numbers: dict[str, dict[str, float | None]]) -> None:
    """The table of what has been measured so far."""
    last = list(numbers.values())[-1]
    variants = [each for each in VARIANTS.values() if f"{each}_s" in last]
    header = ["observer", "plain s"]
    for each in variants[1:]:
        header += [f"{each} s", "ratio"]
    header += ["floor s", "its share", *(f"{each} MB" for each in variants)]
    print_table(header, [row_of(each, found) for each, found in numbers.items()])


def parsed() -> argparse.Namespace:
    parser = base_parser(__doc__)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--observers", nargs="+", default=list(IMAGENET_OBSERVERS))
    parser.add_argument("--precision", default="float32", choices=["float32", "tf32", "bfloat16", "float16"])
    parser.add_argument("--compile", default="none", choices=["none", "default", "max-autotune", "graphs"])
    parser.add_argument("--iterations", type=int, default=1000, help="of a whole recover; not run here")
    parser.set_short(batch_size=8, repeats=2)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    # Before the first step: the code on disk may change while this runs.
    facts = {
        **provenance(options.device), "batch_size": options.batch_size, "image_size": options.image_size,
        "repeats": options.repeats, "precision": options.precision, "compile": options.compile,
    }  # fmt: skip
    machine = measured_machine(options.device)
    numbers: dict[str, dict[str, float | None]] = {}
    for name in options.observers:
        numbers[name] = measured(name, options, machine)
        print_numbers(numbers)
        print()
    numbers["total"] = total_of(list(numbers.values()))
    print_numbers(numbers)
    loop = measured_loop(options)
    print_table(["whole loop", "s an iteration", "s a condensed image", "MB"],
                [[f"batch {options.batch_size}, {options.iterations} iterations", loop["iteration_s"],
                  loop["condensed_image_s"], loop["peak_mb"]]])  # fmt: skip
    print_note(
        f"Floor: {machine.flops / 1e9:.1f} GFLOP/s and {machine.bytes / 1e9:.1f} GB/s in copies, "
        "measured in this run."
    )
    print_facts(facts)
    if options.json:
        print_json({**numbers, "loop": loop, "floor": asdict(machine), "provenance": facts})


if __name__ == "__main__":
    main()
