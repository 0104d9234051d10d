"""Finding the first NaN or Inf of an optimisation without waiting for the device at every iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edc_ray.errors import NumericalError

_INTERVAL = 25  # iterations between two checks on an accelerator, where a check may wait for the device


@dataclass(frozen=True)
class Iteration:
    """What one iteration computed, still on the device and without gradient."""

    iteration: int
    observer: str
    loss: Tensor
    terms: Mapping[str, Tensor]
    gradient_sum: Tensor
    distances: Tensor | None  # [Q, T], the observer's matching distances
    quantity_layers: Sequence[str]  # the layer of each of their rows


@dataclass(frozen=True)
class _Check:
    """Whether some iterations were finite; the answer is on its way from the device."""

    noted: Sequence[Iteration]
    finite: Tensor
    arrived: torch.cuda.Event | None

    def finish(self) -> None:
        if self.arrived is not None:
            self.arrived.synchronize()
        flags = self.finite.tolist()
        if not all(flags):
            raise _error(self.noted[flags.index(False)])


class FiniteWatch:
    """Checks now and then whether the iterations noted so far are finite.

    On a CUDA device a check reads the answer to the question of one interval ago, which has arrived long
    since. So the loop waits for the device only at its end.

    Raises:
        NumericalError: the images at the start are not finite.
    """

    def __init__(self, images: Tensor) -> None:
        if not torch.isfinite(images).all():
            raise NumericalError("recover: a NaN or Inf in the input images, before the first iteration")
        self._interval = 1 if images.device.type == "cpu" else _INTERVAL
        self._waits = images.device.type != "cuda"
        self._noted: list[Iteration] = []
        self._asked: _Check | None = None

    def note(self, done: Iteration) -> None:
        """Remembers an iteration. Checks earlier ones when it is time, and raises as `check` does."""
        self._noted.append(done)
        if len(self._noted) < self._interval:
            return
        if self._waits:
            self.check()
            return
        earlier, self._asked = self._asked, self._ask()
        if earlier is not None:
            earlier.finish()

    def check(self) -> None:
        """Checks all remembered iterations.

        Raises:
            NumericalError: names the first bad iteration, its observer, and where it went wrong.
        """
        earlier, self._asked = self._asked, None
        if earlier is not None:
            earlier.finish()
        if self._noted:
            self._ask().finish()

    def _ask(self) -> _Check:
        """Takes what was noted, and asks the device for the answer."""
        noted, self._noted = self._noted, []
        # A sum is finite if all its summands are, except for an overflow, which is as bad.
        finite = torch.stack([done.loss + done.gradient_sum for done in noted]).isfinite()
        if finite.device.type != "cuda":
            return _Check(noted, finite, None)
        finite, arrived = finite.to("cpu", non_blocking=True), torch.cuda.Event()
        arrived.record()
        return _Check(noted, finite, arrived)


def _error(bad: Iteration) -> NumericalError:
    return NumericalError(
        f"recover: a NaN or Inf in {_place(bad)} at iteration {bad.iteration}, observer {bad.observer!r}",
        found=f"loss {bad.loss.item()}",
        expected="finite numbers",
        next="lower recover.learning_rate, or check the statistics and the precision",
    )


def _place(bad: Iteration) -> str:
    if bad.distances is not None:
        rows = bad.distances.isfinite().all(1).tolist()
        if not all(rows):
            return f"the statistics of layer {bad.quantity_layers[rows.index(False)]!r}"
    for name, term in bad.terms.items():
        if not term.isfinite():
            return "the logits" if name == "cross_entropy" else f"the term {name!r}"
    return "the image gradient"
