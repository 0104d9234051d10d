"""Choosing images of one class for a number of slots, with repetition."""

from __future__ import annotations

import numpy as np

from edc_ray.core.seeding import Draws


def uniform_choices(draws: Draws, pool_size: int, count: int) -> np.ndarray:
    """int64 [count], uniform in range(pool_size). A larger count continues the choices of a smaller one."""
    return draws.integers(pool_size, count)


def choices_preferring_unused(draws: Draws, pool_size: int, count: int) -> np.ndarray:
    """As `uniform_choices`, but with probability softmax(-number of uses so far).

    Source:
        the official EDC program for ImageNet-10, with draws of ours.
    """
    used, choices = np.zeros(pool_size), np.empty(count, dtype=np.int64)
    for slot, chance in enumerate(draws.uniform(count)):
        ends = np.cumsum(np.exp(used.min() - used))
        choice = int(np.searchsorted(ends, chance * ends[-1], side="right"))
        used[choice] += 1
        choices[slot] = choice
    return choices
