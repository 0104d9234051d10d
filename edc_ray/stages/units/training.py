"""What training of observers and students shares: optimiser, rate, batches, accuracy on real images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from edc_ray.config.stages import EvaluateConfig, SqueezeConfig
from edc_ray.core.pixels import from_uint8, normalise
from edc_ray.core.schedules import SCHEDULES, adaptive_factor
from edc_ray.core.students.accuracy import expected_calibration_error, per_class_accuracy, topk_correct
from edc_ray.core.students.weight_decay import weight_decay_groups
from edc_ray.data.real.images import DenseImages, ImageSet
from edc_ray.errors import NumericalError
from edc_ray.models.observers import network_to_bytes
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import blocks
from edc_ray.stages.units.rendering import images_of_a_forward, rendered_batches

TrainingConfig = SqueezeConfig | EvaluateConfig


@dataclass(frozen=True)
class Judgement:
    """Accuracy on real validation images in percent, `ece` in [0, 1]; None for a class without images."""

    top1: float
    top5: float
    ece: float
    per_class: tuple[float | None, ...]
    images: int


def make_optimizer(
    network: nn.Module, section: TrainingConfig, *, captured: bool = False
) -> torch.optim.Optimizer:
    """SGD or AdamW without weight decay of biases and norm scales; one pass over the parameters.

    If its steps are captured, the rate is a tensor on the device.
    """
    decay, no_decay = weight_decay_groups(network.named_parameters())
    groups = [
        {"params": list(decay.values()), "weight_decay": section.weight_decay},
        {"params": list(no_decay.values()), "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate: float | Tensor = section.learning_rate
    if captured:
        rate = torch.tensor(rate, device=next(network.parameters()).device)
    if section.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, fused=True, capturable=captured)
    return torch.optim.SGD(groups, lr=rate, momentum=section.momentum, fused=True)


def set_rate(
    optimizer: torch.optim.Optimizer,
    section: TrainingConfig,
    epoch: int,
    epochs: int,
    losses: Sequence[float] = (),
) -> float:
    """Learning rate of an epoch by the section's schedule; set in the optimiser and returned.

    `losses` are the mean training losses of the epochs before; "alrs" depends on them alone.

    Deviations:
        The official ALRS changes the group with weight decay only, and crashes after its first epoch.
    """
    factor = 1.0
    if section.schedule == "alrs":
        factor = adaptive_factor(losses)
    elif section.schedule != "constant":
        factor = SCHEDULES[section.schedule](epoch, epochs, section.smoothing_factor)
    rate = section.learning_rate * factor
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    return rate


def network_shard(network: nn.Module, name: str, context: StageContext) -> tuple[bytes, int]:
    """A network's state dict under its library's own keys, as a shard."""
    train = context.data.train
    shape = {"image_size": train.image_size, "channels": train.channels}
    return network_to_bytes(network, name=name, class_names=train.class_names, **shape), 1


def wrapped_for_group(network: nn.Module, context: StageContext) -> nn.Module:
    """The network itself, or under DDP if several processes train it."""
    if context.group.size == 1:
        return network
    devices = [context.device] if context.device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=devices)


def batches_of(
    order: np.ndarray, batch_size: int, context: StageContext, *, drop_remainder: bool = False
) -> Iterator[np.ndarray]:
    """Cuts an order into batches; each process of a DDP group gets its share of every batch.

    A last batch too small for BatchNorm (fewer than two images a process) joins the one before it. With
    drop_remainder it is left out, and so are images that do not divide among the processes.
    """
    size = context.group.size
    cuts = list(range(0, len(order), batch_size))
    if len(cuts) > 1 and len(order) - cuts[-1] < 2 * size:
        last = cuts.pop()
        order = order[:last] if drop_remainder else order
    for first, end in zip(cuts, [*cuts[1:], len(order)], strict=True):
        if drop_remainder:
            end -= (end - first) % size
        yield order[first:end][context.group.rank :: size]


def normalised(images: np.ndarray | Tensor, context: StageContext) -> Tensor:
    """Normalised images on the device, from uint8 [N, C, S, S], which may lie there."""
    there = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images)).to(context.device)
    return normalise(from_uint8(there), *mean_and_std(context))


def mean_and_std(context: StageContext) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The dataset's mean and std, which an opened dataset always has."""
    spec = context.config.dataset
    assert spec.mean is not None
    assert spec.std is not None
    return spec.mean, spec.std


def mean_over_group(loss: Tensor, context: StageContext) -> Tensor:
    """Mean of a loss over the processes that train one network, for a schedule that follows it."""
    if context.group.size > 1:  # workers that train networks of their own have a process group too
        loss = loss.detach().clone()
        torch.distributed.all_reduce(loss)
        loss /= context.group.size
    return loss


def check_loss(loss: Tensor, what: str, epoch: int) -> float:
    """The loss as a number; a NumericalError if it is NaN or Inf."""
    value = float(loss.detach())
    if not np.isfinite(value):
        raise NumericalError(
            f"{what}: the training loss is {value} in epoch {epoch}",
            next="lower the learning rate, or look at the images with edc-ray report",
        )
    return value


def _all_normalised(images: ImageSet, context: StageContext, batch_size: int) -> Iterator[Tensor]:
    """A set's images in batches of the size, or of more if these fill the device."""
    ends = list(blocks(len(images), images_of_a_forward(context, batch_size)))

    def render(numbers: range) -> tuple[Tensor]:
        indices = np.arange(ends[numbers[0]][0], ends[numbers[-1]][1])
        return (normalised(context.pixels(images, indices), context),)

    batches = [end - first for first, end in ends], render
    in_a_thread = not isinstance(images, DenseImages)
    return (batch for (batch,) in rendered_batches([batches], context, in_a_thread=in_a_thread))


@torch.no_grad()
def judge(network: nn.Module, images: ImageSet, context: StageContext, batch_size: int) -> Judgement:
    """Accuracy and calibration of a network on real images. Leaves the network in eval mode.

    Raises:
        NumericalError: an output is NaN or Inf, as with weights that overflow.
    """
    network.eval()
    name, logits = type(network).__name__, []
    for batch in _all_normalised(images, context, batch_size):
        found = context.at_once.forward("accuracy", name, network, batch)
        logits.append(found.float().cpu())
    logits_BK, labels_B = torch.cat(logits), torch.from_numpy(np.array(images.labels))
    wrong = int((~logits_BK.isfinite()).any(1).sum())
    if wrong:
        raise NumericalError(
            f"the outputs for {wrong} of {len(images)} validation images are NaN or infinite",
            next="take other weights, or a precision with a wider range (float32)",
        )
    correct_B = topk_correct(logits_BK, labels_B)
    return Judgement(
        top1=100 * float(correct_B.double().mean()),
        top5=100 * float(topk_correct(logits_BK, labels_B, 5).double().mean()),
        ece=expected_calibration_error(logits_BK, labels_B),
        per_class=tuple(
            None if math.isnan(value) else round(100 * value, 4)
            for value in per_class_accuracy(correct_B, labels_B, logits_BK.shape[1]).tolist()
        ),
        images=len(images),
    )
