"""Learning-rate schedules: functions of the iteration or epoch that give a factor of the base rate.

Student schedules share the signature `(epoch, num_epochs, smoothing_factor) -> factor`; `SCHEDULES` names
them. `smoothing_factor` is the paper's zeta: it stretches the cosine to smoothing_factor * num_epochs, of
which only the first num_epochs are run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

Curriculum = Literal["none", "cosine", "step", "linear"]
Schedule = Callable[[int, int, float], float]

# The cosine keeps its smooth shape up to this share of the epochs in the two-part schedules.
SMOOTH_SHARE = 5 / 6


def recover_cosine(iteration: int, num_iterations: int) -> float:
    """Factor of the image learning rate: half a cosine that ends just above 0."""
    return 0.5 * (1 + math.cos(math.pi * iteration / num_iterations))


def smallest_crop(
    iteration: int, num_iterations: int, smallest: float, curriculum: Curriculum, milestone: float = 1.0
) -> float:
    """Lower bound of a view's share of the image, which a curriculum takes from 1 down to `smallest`.

    The way down is half a cosine, a straight line, or whole images and then one step; with "none" the bound
    is `smallest` from the start. `milestone` is its share of the iterations; 0 is no curriculum.

    Source:
        CDA, Yin and Shen, 2023, arXiv:2311.18838, official code.
    """
    done = iteration / (milestone * num_iterations) if milestone else 1.0
    if curriculum == "none" or done >= 1:
        return smallest
    ways = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "step": 1.0}
    return smallest + (1 - smallest) * ways[curriculum]


def cosine(epoch: int, num_epochs: int, smoothing_factor: float) -> float:
    """Cosine stretched by the smoothing factor; 0 after its end."""
    length = smoothing_factor * num_epochs
    return 0.5 * (1 + math.cos(math.pi * epoch / length)) if epoch <= length else 0.0


def linear(epoch: int, num_epochs: int, smoothing_factor: float) -> float:
    """Straight line from 1 to 0 at smoothing_factor * num_epochs; 0 after its end.

    Deviations:
        the official ImageNet-1k program runs this under the name cos, because a second condition overwrites
        its cosine. `edc_official` calls it linear; `edc` has the paper's cosine.
    """
    length = smoothing_factor * num_epochs
    return 1 - epoch / length if epoch <= length else 0.0


def cos2_official(epoch: int, num_epochs: int, smoothing_factor: float) -> float:
    """The official two-part schedule, which falls to a sixth of its value at the switch.

    Deviations:
        none from the official code; the paper's figure is continuous, see `smooth_then_steep`.
    """
    if epoch <= SMOOTH_SHARE * num_epochs:
        return cosine(epoch, num_epochs, smoothing_factor)
    return _value_at_switch(smoothing_factor) * (1 - epoch / num_epochs)


def smooth_then_steep(epoch: int, num_epochs: int, smoothing_factor: float) -> float:
    """SSRS: the stretched cosine for five sixths of the epochs, then a straight line to 0.

    Source:
        EDC, Shao et al., NeurIPS 2024, arXiv:2404.13733, smoothing learning rate, table 16.
    Deviations:
        the official code's counterpart (`cos2_official`) omits the factor 6 that makes it continuous.
    """
    if epoch <= SMOOTH_SHARE * num_epochs:
        return cosine(epoch, num_epochs, smoothing_factor)
    return _value_at_switch(smoothing_factor) * (1 - epoch / num_epochs) / (1 - SMOOTH_SHARE)


def multistep(
    epoch: int, num_epochs: int, smoothing_factor: float, milestones: Sequence[int] = (800, 900, 950)
) -> float:
    """Halved at every milestone; depends neither on the length nor on the smoothing factor."""
    return 0.5 ** sum(epoch >= milestone for milestone in milestones)


SCHEDULES: dict[str, Schedule] = {
    "cos": cosine,
    "linear": linear,
    "cos2_official": cos2_official,
    "cos2": smooth_then_steep,  # made continuous, cos2 is SSRS
    "ssrs": smooth_then_steep,
    "multistep": multistep,
}


def adaptive_factor(losses: Sequence[float]) -> float:
    """ALRS: factor of the epoch after epochs with these mean training losses; it shrinks when they stall.

    Source:
        the official code's ALRS option.
    Deviations:
        the official one crashes when it logs the first epoch, and shrinks only the rate of the parameters
        that have weight decay; here the caller decides which parameters follow.
    """
    factor, previous = 1.0, 1000.0
    for loss in losses:
        change = abs(previous - loss)
        # A product, because the loss may be 0.
        if change < 0.02 * loss and change < 0.02:
            factor *= 0.9975
        previous = loss
    return factor


def _value_at_switch(smoothing_factor: float) -> float:
    return 0.5 * (1 + math.cos(SMOOTH_SHARE * math.pi / smoothing_factor))
