"""Operations that start a kernel on a GPU, in one unit of work of every stage, in the form that CUDA takes.

    python benchmarks/bench_launches.py [--observers NAME ...] [--stages NAME ...] [--json]

Nothing is timed and no GPU is needed: the operations are counted while a CPU runs them, with two images and
random weights; their number depends on neither. Views start nothing and are not counted. An operation of ours
counts as the kernels that are declared for it (edc_ray/kernels/cuda/registration.py).

    squeeze     one optimiser step of an observer; plain is the same without gradient clipping or scales
    statistics  one batch of one observer; plain is its forward
    recover     one iteration with one observer; plain is cross entropy, forward and backward to the images
    relabel     one batch of one observer; plain is its forward
    evaluate    one step of a student of that architecture; plain is a training step without averages

The JSON object holds stage -> network -> plain, ours, layers (measured ones; 0 where there are none), and the
operations of ours by name under "operations".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from harness import base_parser, print_facts, print_json, print_note, print_table, provenance
from launches import launches_of
from reference.torch_layers import by_torch_layers
from torch import Tensor, nn

from edc_ray.config.stages import EvaluateConfig, SqueezeConfig
from edc_ray.core.layers.accumulator import StatisticsAccumulator
from edc_ray.core.layers.network_numerics import FLOAT32
from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.recover.captured import CapturedRecover
from edc_ray.core.recover.local_targets import local_class_targets
from edc_ray.core.recover.loop import recover_images
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.core.recover.state import LoopState, Observer
from edc_ray.core.seeding import draws
from edc_ray.core.students.ema import EmaParameters
from edc_ray.core.students.student_loss import LossOptions, mse_ce
from edc_ray.kernels.cpu.fused_network import Wanted, fused_network, trial_images
from edc_ray.kernels.cuda.pixels import TritonPixelKernels
from edc_ray.kernels.cuda.statistics import TritonKernels
from edc_ray.models.observers import freeze
from edc_ray.models.registry import build_network
from edc_ray.stages.units.training import make_optimizer
from edc_ray.stages.units.training_step import TrainingStep

LARGE = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet")
SMALL = (
    "resnet18_small", "wrn_16_2", "shufflenet_v2_x0_5_small", "convnet_w128", "convnet_w32",
    "mobilenet_v2_small", "convnet_d2", "convnet_d1",
)  # fmt: skip
CLASSES = 10
IMAGES = 2
Counts = dict[str, Any]


def size_of(name: str) -> int:
    """Of the images of a network: those of ImageNet or of CIFAR-10."""
    return 224 if name in LARGE else 32


def patch_side_of(name: str) -> int:
    return 16 if name in LARGE else 4


def network_of(name: str) -> nn.Module:
    """Of torch's layers: a ConvNet's compiled pass is a CPU's."""
    sizes = {"num_classes": CLASSES, "image_size": size_of(name), "channels": 3, "seed": 0}
    return by_torch_layers(build_network(name, **sizes))


def images_of(name: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(IMAGES, 3, size_of(name), size_of(name), generator=generator), torch.arange(IMAGES)


def kernels_of_cuda() -> TritonKernels:
    """Those of a CUDA device; here their operations run in torch's form."""
    return TritonKernels("cpu")


def fused_of(network: nn.Module, name: str, wanted: Wanted, kernels: TritonKernels) -> nn.Module:
    """As a stage has an observer on a CUDA device."""
    trial = trial_images(3, size_of(name), torch.device("cpu"))
    return fused_network(network, wanted, kernels, FLOAT32, trial)


def recover_counts(name: str) -> Counts:
    """One iteration, captured or not: the operations are the same."""
    network, (images, labels), kernels = freeze(network_of(name)), images_of(name), kernels_of_cuda()
    fused = fused_of(network, name, "gradients", kernels)
    observer = Observer.of(name, fused, kernels=kernels)
    settings, side = RecoverSettings(iterations=10), patch_side_of(name)
    local = local_class_targets([observer], images, side)
    targets = {name: {layer: LayerTarget(each) for layer, each in local[name].items()}}
    states = [LoopState.start(images)]

    def counted(step: Callable[[], None], *_: object) -> Callable[[], None]:
        return step

    captured = CapturedRecover(TritonPixelKernels(), counted)

    def iteration() -> None:
        states[0] = recover_images(
            states[0], labels, [observer], targets, settings, patch_side=side, mean=(0.5,) * 3,
            std=(0.25,) * 3, draws=partial(draws, 0), local_targets=local,
            until=states[0].iteration + 1, captured=captured,
        )  # fmt: skip

    iteration()
    ours = launches_of(captured.steps[name])
    plain = launches_of(partial(_image_gradient, network, images, labels))
    return _counts(plain, ours, len(observer.taps.kinds))


def _image_gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    leaf = images.detach().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(network(leaf), labels), leaf)[0]


@torch.no_grad()
def statistics_counts(name: str) -> Counts:
    network, (images, labels), kernels = freeze(network_of(name)), images_of(name), kernels_of_cuda()
    fused = fused_of(network, name, "inputs", kernels)
    taps = LayerTaps(fused, kernels=kernels)
    sums = StatisticsAccumulator(taps.kinds, patch_side_of(name))

    def batch() -> None:
        with taps.measuring_images(kernels.image_statistics, sums.patch_side) as measured:
            fused(images.contiguous(memory_format=torch.channels_last))
        sums.add_measured(measured, labels)

    return _counts(launches_of(partial(network, images)), launches_of(batch), len(taps.kinds))


@torch.no_grad()
def relabel_counts(name: str) -> Counts:
    network, (images, _), kernels = freeze(network_of(name)), images_of(name), kernels_of_cuda()
    fused = fused_of(network, name, "results", kernels)
    laid_out = images.contiguous(memory_format=torch.channels_last)
    return _counts(launches_of(partial(network, images)), launches_of(partial(fused, laid_out)), 0)


def squeeze_counts(name: str) -> Counts:
    images, labels = images_of(name)
    section = SqueezeConfig(observers=(name,))

    def plain_loss(network: nn.Module) -> Tensor:
        return F.cross_entropy(network(images), labels)

    network, total = network_of(name).train(), torch.zeros(())
    train_step = TrainingStep(
        make_optimizer(network, section),
        lambda images, labels: F.cross_entropy(network(images), labels),
        images.device, images.dtype,
    )  # fmt: skip

    def step() -> None:
        train_step([((images, labels), 1.0)], total)

    return _counts(launches_of(_plain_training(network_of(name), plain_loss, section)), launches_of(step), 0)


def evaluate_counts(name: str) -> Counts:
    images, labels = images_of(name)
    section, logits = EvaluateConfig(students=(name,)), torch.randn(IMAGES, CLASSES)

    options = LossOptions(temperature=section.temperature, ce_weight=section.ce_weight)

    def plain_loss(network: nn.Module) -> Tensor:
        return mse_ce(network(images), logits, labels, options)

    network, total = network_of(name).train(), torch.zeros(())
    ema = EmaParameters(network, section.ema_decay)
    train_step = TrainingStep(
        make_optimizer(network, section),
        lambda images, logits, labels: mse_ce(network(images), logits, labels, options),
        images.device, images.dtype, after=ema.update,
    )  # fmt: skip

    def step() -> None:
        train_step([((images, logits, labels), 1.0)], total)

    return _counts(launches_of(_plain_training(network_of(name), plain_loss, section)), launches_of(step), 0)


def _plain_training(
    network: nn.Module, loss_of: Callable[[nn.Module], Tensor], section: SqueezeConfig | EvaluateConfig
) -> Callable[[], None]:
    network.train()
    optimizer = make_optimizer(network, section)

    def step() -> None:
        loss_of(network).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _counts(plain: Counter[str], ours: Counter[str], layers: int) -> Counts:
    return {
        "plain": plain.total(), "ours": ours.total(), "layers": layers,
        "operations": dict(ours.most_common()),
    }  # fmt: skip


COUNTS: dict[str, Callable[[str], Counts]] = {
    "squeeze": squeeze_counts,
    "statistics": statistics_counts,
    "recover": recover_counts,
    "relabel": relabel_counts,
    "evaluate": evaluate_counts,
}
"""In the order of the pipeline."""


def main() -> None:
    parser = base_parser(__doc__)
    parser.add_argument("--observers", nargs="+", default=[*LARGE, *SMALL])
    parser.add_argument("--stages", nargs="+", choices=COUNTS, default=list(COUNTS))
    parser.set_short(observers=["resnet18_small", "convnet_w128"])
    options = parser.parse_args()
    facts = {**provenance(options.device), "images": IMAGES, "classes": CLASSES}
    found: dict[str, dict[str, Counts]] = {}
    for stage in options.stages:
        count = COUNTS[stage]
        found[stage] = {name: count(name) for name in options.observers}
        rows = [
            [name, each["plain"], each["ours"], each["ours"] - each["plain"], each["layers"]]
            for name, each in found[stage].items()
        ]
        print_table([stage, "plain", "ours", "more", "measured layers"], rows)
    print_note("Operations that start a kernel; where a step is captured, the host starts one.")
    print_facts(facts)
    if options.json:
        print_json({**facts, **found})


if __name__ == "__main__":
    main()
