"""Stands for a capture on machines without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx


class Traced:
    """In place of a capture: a step's third call is traced, and the trace is run from then on.

    A number or a draw that the step took from the host would be the same in all runs of the trace, and asking
    the device for one raises while it is traced.
    """

    def __init__(self, step: Callable[[], None], *_: object) -> None:
        self._step, self._calls = step, 0
        self.graph: Any = None

    def __call__(self) -> None:
        self._calls += 1
        if self.graph is not None:
            with torch.no_grad():  # derivatives are operations of the trace
                self.graph()
        elif self._calls < 3:
            self._step()
        else:
            self.graph = make_fx(lambda: self._without_result())()

    def _without_result(self) -> Tensor:
        self._step()
        return torch.zeros(())
