"""Finding the first NaN or Inf of an optimisation without waiting for the device at every iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edc_ray.errors import NumericalError

# On an accelerator, iterations between two looks while nobody listens: each look waits for the device.
_INTERVAL = 25


@dataclass(frozen=True)
class Iteration:
    """What one iteration computed, still on the device and without gradient.

    `distances` [Q, T] are the observer's matching distances; `quantity_layers` names the layer of each row.
    """

    iteration: int
    observer: str
    loss: Tensor
    terms: Mapping[str, Tensor]
    gradient_sum: Tensor
    distances: Tensor | None
    quantity_layers: Sequence[str]


@dataclass(frozen=True)
class _Look:
    """Whether some iterations were finite, on its way from the device."""

    noted: Sequence[Iteration]
    finite: Tensor
    arrived: torch.cuda.Event | None

    def check(self) -> None:
        if self.arrived is not None:
            self.arrived.synchronize()
        flags = self.finite.tolist()
        if not all(flags):
            raise _error(self.noted[flags.index(False)])


class FiniteWatch:
    """Looks at the iterations noted so far once in a while.

    On a CUDA device it looks at what it asked for an interval ago, which has long arrived: the loop waits
    for the device at its end only.

    Args:
        images: the images at the start.

    Raises:
        NumericalError: the images at the start are not finite.
    """

    def __init__(self, images: Tensor) -> None:
        if not torch.isfinite(images).all():
            raise NumericalError("recover: a NaN or Inf in the input images, before the first iteration")
        self._interval = 1 if images.device.type == "cpu" else _INTERVAL
        self._waits = images.device.type != "cuda"
        self._noted: list[Iteration] = []
        self._asked: _Look | None = None

    def note(self, done: Iteration) -> None:
        """Remembers an iteration, and looks at earlier ones when it is time.

        Raises:
            NumericalError: as `check`.
        """
        self._noted.append(done)
        if len(self._noted) < self._interval:
            return
        if self._waits:
            self.check()
            return
        earlier, self._asked = self._asked, self._ask()
        if earlier is not None:
            earlier.check()

    def check(self) -> None:
        """Looks at all remembered iterations.

        Raises:
            NumericalError: names the first bad iteration, its observer, and where it went wrong.
        """
        earlier, self._asked = self._asked, None
        if earlier is not None:
            earlier.check()
        if self._noted:
            self._ask().check()

    def _ask(self) -> _Look:
        """Takes what was noted, and sends for the answer."""
        noted, self._noted = self._noted, []
        # A sum is finite if and only if its summands are, short of an overflow that is as bad.
        finite = torch.stack([done.loss + done.gradient_sum for done in noted]).isfinite()
        if finite.device.type != "cuda":
            return _Look(noted, finite, None)
        finite, arrived = finite.to("cpu", non_blocking=True), torch.cuda.Event()
        arrived.record()
        return _Look(noted, finite, arrived)


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
