"""The condensed set: its images, its stored views and their soft labels, for PyTorch.

Cards of published sets name the classes below by this path. May import nothing more.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edc_ray.data.condensed.images import CondensedImages, CondensedViews
    from edc_ray.data.condensed.stream import CondensedDataset

__all__ = ["CondensedDataset", "CondensedImages", "CondensedViews"]


def __getattr__(name: str) -> Any:
    # Lazy: importing the package brings neither torch nor pyarrow.
    if name in __all__:
        file = "stream" if name == "CondensedDataset" else "images"
        return getattr(importlib.import_module(f"{__name__}.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
