"""Counts the operations that start a kernel on a GPU, on any machine.

On a GPU the host starts every operation by itself, at some 13 microseconds each (measured on an H100): where
operations compute for less, their number is the time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from edc_ray.kernels.cuda.registration import LAUNCHES

_STARTS_NOTHING = frozenset(
    re.findall(
        r"\w+",
        """view t transpose permute expand slice select unsqueeze squeeze detach alias as_strided _unsafe_view
        reshape split split_with_sizes unbind diagonal empty empty_like new_empty empty_strided
        new_empty_strided lift_fresh is_same_size narrow sym_size real unfold _local_scalar_dense
        _reshape_alias resolve_conj resolve_neg""",
    )
)
"""Views, and memory that nobody fills."""


class LaunchCounter(TorchDispatchMode):
    """Within it, operations are counted by their names; one of ours as what is declared beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.by_name: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return sum(self.by_name.values())

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        namespace, _, name = func._schema.name.partition("::")  # type: ignore[attr-defined]
        if namespace == "edc_ray":
            self.by_name[name] += LAUNCHES[name]
        elif name not in _STARTS_NOTHING:
            self.by_name[name] += 1
        return func(*args, **(kwargs or {}))


def launches_of(run: Callable[[], object]) -> Counter[str]:
    """Operations of one call, by name; what is done in the first call only is not among them."""
    run()
    with LaunchCounter() as counter:
        run()
    return counter.by_name
