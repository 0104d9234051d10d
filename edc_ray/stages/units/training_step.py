"""An optimiser step of a training: as it is, or captured as a CUDA graph and replayed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edc_ray.core.captured_step import CapturedStep, memory_pool
from edc_ray.models.registry import RANDOM_STATE
from edc_ray.stages.units.context import Seat, StageContext

Inputs = tuple[Tensor, ...]
Captures = Callable[[Callable[[], None], torch.device, object], Callable[[], None]]


def begin_training(context: StageContext, network: nn.Module, seed: int) -> None:
    """Seed what a network draws while it trains, such as dropout.

    All threads of a process draw from one random state. So a network that draws waits here until no other
    trains in the process, and trains alone.
    """
    shape = context.data.train.channels, context.data.train.image_size, context.data.train.image_size
    if not context.seat.alone and draws_numbers(network, shape):
        context.seat.go_on_alone()
    with RANDOM_STATE:
        torch.manual_seed(seed)


def draws_numbers(network: nn.Module, shape_CHW: tuple[int, int, int]) -> bool:
    """Whether a forward in training mode draws from torch's random state, or cannot be tried on a CPU.

    Network and random state stay as they are.
    """
    with RANDOM_STATE, torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            tried = copy.deepcopy(network).cpu().train()
            before = torch.get_rng_state()
            tried(torch.zeros(2, *shape_CHW))
        except Exception:  # of the network's own code
            return True
        return not torch.equal(before, torch.get_rng_state())


def captures_of(context: StageContext, what: str, why_not: str | None = None) -> Captures | None:
    """How steps of a training are captured: on CUDA with compile=auto. Warns if a training there cannot be.

    Args:
        what: the training, for the warning.
        why_not: the reason of its stage, if it has one.
    """
    if context.device.type != "cuda" or context.config.compile != "auto":
        return None
    if context.numerics().dtype == torch.float16:
        why_not = "precision=float16, whose scale of gradients changes"
    if context.group.size > 1:
        why_not = "several processes, which wait for each other"
    if why_not is None:
        return CapturedStep
    warnings.warn(f"{what}: steps are not captured, because of {why_not}", stacklevel=2)
    return None


@dataclass
class _OfOneSize:
    """The step for batches of one size: its inputs and its loss stay where they are."""

    inputs: Inputs
    loss: Tensor
    run: Callable[[], None]


@dataclass
class _Step:
    """A step as it is; see `TrainingStep`."""

    optimizer: torch.optim.Optimizer
    loss_of: Callable[..., Tensor]
    scaler: torch.amp.GradScaler
    after: Callable[[], None]

    def __call__(self, batches: Iterable[tuple[Inputs, float]], total: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        for inputs, share in batches:
            loss = self.loss_of(*inputs)
            self.scaler.scale(loss if share == 1 else loss * share).backward()
            total += loss.detach()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.after()


class TrainingStep:
    """Forward, loss, backward, optimiser step and what follows, for one batch after another.

    In float16 the loss is scaled up before its backward pass, so that small gradients stay above 0. A step
    with a gradient that overflowed is left out. The scale lasts for one training.

    Args:
        optimizer: for captured steps one of `make_optimizer(..., captured=True)`.
        loss_of: the loss, from the tensors of a batch.
        dtype: of the network's products.
        after: what follows a step, such as averages.
        captures: makes of a step the function that is called instead; None leaves it as it is. A captured
            step has one batch.
        seat: of the training; it hears of each step.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        loss_of: Callable[..., Tensor],
        device: torch.device,
        dtype: torch.dtype,
        *,
        after: Callable[[], None] = lambda: None,
        captures: Captures | None = None,
        seat: Seat | None = None,
    ) -> None:
        scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self._step = _Step(optimizer, loss_of, scaler, after)
        self._seat = seat or Seat()
        self._device, self._captures = device, captures
        self._sizes: dict[tuple[torch.Size, ...], _OfOneSize] = {}
        self._pool = memory_pool(device) if captures else None

    def __call__(self, batches: Iterable[tuple[Inputs, float]], total: Tensor) -> None:
        """One step on batches, each with the weight of its loss; adds their losses to `total`."""
        if self._captures is None:
            self._step(batches, total)
        else:
            ((inputs, share),) = batches
            assert share == 1.0, "a captured step has one batch"
            of_size = self._of_size(inputs, self._captures)
            for kept, given in zip(of_size.inputs, inputs, strict=True):
                kept.copy_(given)
            of_size.run()
            total += of_size.loss
        self._seat.step_done()

    def _of_size(self, inputs: Inputs, captures: Captures) -> _OfOneSize:
        key = tuple(one.shape for one in inputs)
        if key not in self._sizes:
            kept = tuple(torch.empty_like(one) for one in inputs)
            loss, one_step = torch.zeros((), device=self._device), self._step

            def step() -> None:  # without a reference to this object: recordings go with it, in its thread
                one_step([(kept, 1.0)], loss.zero_())

            self._sizes[key] = _OfOneSize(kept, loss, captures(step, self._device, self._pool))
        return self._sizes[key]
