"""An optimiser step of a training: as it is, or captured as a CUDA graph and replayed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from edc_ray.core.captured_step import CapturedStep, memory_pool
from edc_ray.stages.units.context import StageContext

Inputs = tuple[Tensor, ...]
Captures = Callable[[Callable[[], None], torch.device, object], Callable[[], None]]


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
    ) -> None:
        self._optimizer, self._loss_of, self._after = optimizer, loss_of, after
        self._scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self._device, self._captures = device, captures
        self._sizes: dict[tuple[torch.Size, ...], _OfOneSize] = {}
        self._pool = memory_pool(device) if captures else None

    def __call__(self, batches: Iterable[tuple[Inputs, float]], total: Tensor) -> None:
        """One step on batches, each with the weight of its loss; adds their losses to `total`."""
        if self._captures is None:
            self._step(batches, total)
            return
        ((inputs, share),) = batches
        assert share == 1.0, "a captured step has one batch"
        of_size = self._of_size(inputs)
        for kept, given in zip(of_size.inputs, inputs, strict=True):
            kept.copy_(given)
        of_size.run()
        total += of_size.loss

    def _step(self, batches: Iterable[tuple[Inputs, float]], total: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        for inputs, share in batches:
            loss = self._loss_of(*inputs)
            self._scaler.scale(loss if share == 1 else loss * share).backward()
            total += loss.detach()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._after()

    def _of_size(self, inputs: Inputs) -> _OfOneSize:
        key = tuple(one.shape for one in inputs)
        if key not in self._sizes:
            kept = tuple(torch.empty_like(one) for one in inputs)
            loss = torch.zeros((), device=self._device)

            def step() -> None:
                self._step([(kept, 1.0)], loss.zero_())

            assert self._captures is not None
            self._sizes[key] = _OfOneSize(kept, loss, self._captures(step, self._device, self._pool))
        return self._sizes[key]
