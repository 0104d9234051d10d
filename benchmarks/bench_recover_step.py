"""One step of recover: forward, cross entropy, statistic matching, backward to the images.

    python benchmarks/bench_recover_step.py [--batch-size 20] [--image-size 224] [--observers NAME ...]

Randomly initialised observers, images and targets; the time depends on neither. Four variants:

    plain      cross entropy alone, float32, NCHW: what the network costs without any matching
    reference  with matching, the straightforward way (reference/layer_matching.py)
    ours       with matching, in torch's operations, as where there is no compiler
    compiled   with matching, by the kernels that a C++ compiler makes, where there is one

The ratios are to plain. Memory is what a step needs at most beyond what is there before it.
The JSON object holds, for each observer and in sum under "total": plain_s, reference_s, ours_s,
ours_compiled_s (minima; medians end in _median_s) and peak_mb, plain_peak_mb, reference_peak_mb (their
largest in "total"; peak_mb is that of the fastest of ours).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from harness import base_parser, interleaved, peak_megabytes, print_json, print_table, provenance
from reference.layer_matching import hooked
from torch import Tensor

from edc_ray.core.local_targets import local_class_targets
from edc_ray.core.matching import LayerTarget
from edc_ray.core.observer_matching import ObserverMatcher
from edc_ray.core.recover_state import Observer, RecoverSettings
from edc_ray.kernels.compiled import CompiledKernels, compiled_kernels
from edc_ray.models.observers import freeze
from edc_ray.models.registry import build_network

IMAGENET_OBSERVERS = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet")
NUM_CLASSES = 1000
VARIANTS = {"plain": "plain", "reference": "reference", "ours": "ours", "compiled": "ours_compiled"}


def steps_of(name: str, options: argparse.Namespace) -> dict[str, Callable[[], Tensor]]:
    """A function for each variant, which makes one step and gives the images' gradient."""
    device, shape = options.device, (options.batch_size, 3, options.image_size, options.image_size)
    generator = torch.Generator().manual_seed(0)
    images, others = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
    labels = torch.randint(NUM_CLASSES, shape[:1], generator=generator).to(device)
    network = build_network(
        name, num_classes=NUM_CLASSES, image_size=options.image_size, channels=3, seed=0
    ).to(device)
    plain = Observer.of(name, freeze(network))
    settings = RecoverSettings(estimate_start="zero", patch_side=16 if options.image_size > 64 else 4)
    local = local_class_targets([plain], others, settings.patch_side)[name]
    targets = {layer: LayerTarget(each) for layer, each in local.items()}

    def gradient(forward: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = images.detach().requires_grad_()
        return torch.autograd.grad(forward(leaf), leaf)[0]

    def ours(observer: Observer) -> Callable[[], Tensor]:
        matcher = ObserverMatcher(observer, targets, labels, settings, images, class_targets=local)

        def forward(leaf: Tensor) -> Tensor:
            with observer.taps.measuring(settings.patch_side) as statistics:
                logits = observer.logits(leaf)
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
        steps["compiled"] = ours(Observer.of(name, network, kernels=kernels))
    return steps


def measured(name: str, options: argparse.Namespace) -> dict[str, float | None]:
    """The numbers of one observer, as the JSON object has them."""
    steps = steps_of(name, options)
    timings = interleaved(steps, options.repeats, options.device)
    found: dict[str, float | None] = {}
    for variant, timing in timings.items():
        found[f"{VARIANTS[variant]}_s"] = timing.minimum
        found[f"{VARIANTS[variant]}_median_s"] = timing.median
    for variant, step in steps.items():
        found[f"{VARIANTS[variant]}_peak_mb"] = peak_megabytes(step, options.device)
    fastest = "ours_compiled" if "compiled" in steps else "ours"
    return {**found, "peak_mb": found[f"{fastest}_peak_mb"]}


def total_of(parts: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Seconds add up; of the peaks the largest counts."""
    total: dict[str, float | None] = {}
    for field in parts[0]:
        values = [value for part in parts if (value := part[field]) is not None]
        total[field] = (sum(values) if field.endswith("_s") else max(values)) if values else None
    return total


def row_of(name: str, numbers: dict[str, Any]) -> list[object]:
    variants = [each for each in VARIANTS.values() if f"{each}_s" in numbers]
    row: list[object] = [name, numbers["plain_s"]]
    for each in variants[1:]:
        row += [numbers[f"{each}_s"], numbers[f"{each}_s"] / numbers["plain_s"]]
    peaks = [numbers[f"{each}_peak_mb"] for each in variants]
    return row + [None if peak is None else round(peak) for peak in peaks]


def main() -> None:
    parser = base_parser(__doc__)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--observers", nargs="+", default=list(IMAGENET_OBSERVERS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # Before the first step: the code on disk may change while this runs.
    facts = {
        **provenance(options.device), "batch_size": options.batch_size, "image_size": options.image_size,
        "repeats": options.repeats,
    }  # fmt: skip
    numbers: dict[str, dict[str, float | None]] = {}
    for name in options.observers:
        numbers[name] = measured(name, options)
        variants = [each for each in VARIANTS.values() if f"{each}_s" in numbers[name]]
        header = ["observer", "plain s"]
        for each in variants[1:]:
            header += [f"{each} s", "ratio"]
        header += [f"{each} MB" for each in variants]
        print_table(header, [row_of(each, found) for each, found in numbers.items()])
        print()
    numbers["total"] = total_of(list(numbers.values()))
    print_table(header, [row_of(each, found) for each, found in numbers.items()])
    print(" ".join(f"{name}={value}" for name, value in facts.items()))
    if options.json:
        print_json({**numbers, "provenance": facts})


if __name__ == "__main__":
    main()
