"""Finding the first NaN or Inf of an optimisation without waiting for the device at every iteration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


class FiniteWatch:
    """Checks now and then whether the iterations noted so far are finite.

    On a CUDA device a check reads the answer to the question of one interval ago, which has arrived long
    since. So the loop waits for the device only at its end. Images that are not finite at the start raise a
    NumericalError.
    """

    def __init__(self, images: Tensor) -> None:
        if not torch.isfinite(images).all():
            raise NumericalError("recover: a NaN or Inf in the input images, before the first iteration")
        self._interval = 1 if images.device.type == "cpu" else _INTERVAL
        self._waits = images.device.type != "cuda"
        self._noted: list[Iteration] = []
        self._asked: Callable[[], None] | None = None

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
            earlier()

    def check(self) -> None:
        """Checks all remembered iterations.

        Raises:
            NumericalError: names the first bad iteration, its observer, and where it went wrong.
        """
        earlier, self._asked = self._asked, None
        if earlier is not None:
            earlier()
        if self._noted:
            check_rest = self._ask()
            check_rest()

    def _ask(self) -> Callable[[], None]:
        """Asks the device about what was noted; the function waits for the answer and raises if it is bad."""
        noted, self._noted = self._noted, []
        # A sum is finite if all its summands are, except for an overflow, which is as bad.
        finite = torch.stack([done.loss + done.gradient_sum for done in noted]).isfinite()
        arrived: torch.cuda.Event | None = None
        if finite.device.type == "cuda":
            finite, arrived = finite.to("cpu", non_blocking=True), torch.cuda.Event()
            arrived.record()

        def check() -> None:
            if arrived is not None:
                arrived.synchronize()
            flags = finite.tolist()
            if not all(flags):
                raise _error(noted[flags.index(False)])

        return check


def _error(bad: Iteration) -> NumericalError:
    rows = [] if bad.distances is None else bad.distances.isfinite().all(1).tolist()
    terms = [name for name, term in bad.terms.items() if not term.isfinite()]
    place = "the image gradient"
    if not all(rows):
        place = f"the statistics of layer {bad.quantity_layers[rows.index(False)]!r}"
    elif terms:
        place = "the logits" if terms[0] == "cross_entropy" else f"the term {terms[0]!r}"
    return NumericalError(
        f"recover: a NaN or Inf in {place} at iteration {bad.iteration}, observer {bad.observer!r}",
        found=f"loss {bad.loss.item()}",
        expected="finite numbers",
        next="lower recover.learning_rate, or check the statistics and the precision",
    )
