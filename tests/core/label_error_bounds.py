"""Upper bounds of the error of decoded logits, for each codec. N labels, K classes."""

from __future__ import annotations

import numpy as np

from edc_ray.core.labels.codec import Fp16Codec, LabelCodec, as_halves
from edc_ray.core.labels.components import ComponentsCodec, _projected
from edc_ray.core.labels.quantised import QuantisedCodec
from edc_ray.core.labels.top import _LEVELS, TopCodec, _largest


def error_bound(codec: LabelCodec, logits_NK: np.ndarray) -> np.ndarray:
    """Upper bound of |decoded - logits| if these logits are encoded as one table."""
    if isinstance(codec, TopCodec):
        return _bound_of_top(codec, logits_NK)
    if isinstance(codec, ComponentsCodec):
        return _bound_of_components(codec, logits_NK)
    if isinstance(codec, QuantisedCodec):
        return _bound_of_quantised(codec, logits_NK)
    assert isinstance(codec, Fp16Codec)
    return _half_precision(np.asarray(logits_NK, np.float64))


def _half_precision(logits_NK: np.ndarray) -> np.ndarray:
    """Half a unit in the last place: 2**-11 of the logit, 2**-25 below the normal numbers."""
    return np.maximum(np.abs(logits_NK) * 2.0**-11, 2.0**-25)


def _bound_of_quantised(codec: QuantisedCodec, logits_NK: np.ndarray) -> np.ndarray:
    """Half the label's step, the rounding to half precision, and that of float32."""
    logits_NK = np.asarray(logits_NK, np.float64)
    _, step_N = codec._grid(as_halves(logits_NK, codec.name))
    largest_N1 = np.abs(logits_NK).max(axis=1, keepdims=True)
    return step_N.astype(np.float64)[:, None] / 2 + _half_precision(logits_NK) + largest_N1 * 2.0**-21


def _bound_of_components(codec: ComponentsCodec, logits_NK: np.ndarray) -> np.ndarray:
    """The part outside the components, plus their errors (half a step, or what is clipped at the last
    level), plus the rounding of half_steps and to half precision."""
    halves_NK = as_halves(logits_NK, codec.name)
    components, axes_RK, steps_R = codec.fit(halves_NK)
    places_NR = _projected(halves_NK, components.mean, axes_RK)
    outside_NK = np.abs(halves_NK - components.mean.astype(np.float64) - places_NR @ axes_RK)
    reach_R = steps_R * 2.0 ** (components.bits - 1.0)
    error_NR = steps_R / 2 + np.maximum(np.abs(places_NR) - reach_R, 0)
    rounded_R = 2.0 ** (components.bits.astype(np.float64) - 1 - components.exponent)
    logits_NK = np.asarray(logits_NK, np.float64)
    largest = np.abs(logits_NK).max(initial=0) + np.abs(components.mean).max(initial=0) + reach_R.sum()
    rounding_NK = _half_precision(logits_NK)
    return outside_NK + error_NR @ np.abs(axes_RK) + rounded_R.sum() + rounding_NK + largest * 2.0**-20


def _bound_of_top(codec: TopCodec, logits_NK: np.ndarray) -> np.ndarray:
    """Of a kept logit, half a step of its label's grid, which may be up to two units of the table wider than
    the kept logits. Of another, the background's error there and at worst anywhere (rest lies between the
    least and the greatest), and half a unit.
    """
    halves_NK = as_halves(logits_NK, codec.name).astype(np.float64)
    logits_NK = np.asarray(logits_NK, np.float64)
    rounding_NK = _half_precision(logits_NK) + np.abs(logits_NK).max() * 2.0**-20
    classes_Nk = _largest(halves_NK, codec.size)
    values_Nk = np.take_along_axis(halves_NK, classes_Nk, axis=1)
    low_N, high_N = values_Nk.min(axis=1), values_Nk.max(axis=1)
    kept_N = np.zeros(len(halves_NK))
    if codec.bits is not None:
        unit = (high_N.max() - low_N.min()) / _LEVELS
        kept_N = (high_N - low_N + 2 * unit) / (2**codec.bits - 1) / 2
    if codec.size >= halves_NK.shape[1]:
        return kept_N[:, None] + rounding_NK
    others_NK = np.ones(halves_NK.shape, bool)
    np.put_along_axis(others_NK, classes_Nk, False, axis=1)
    if codec.components is None:
        below_NK = np.zeros_like(halves_NK)
        least_N1 = np.where(others_NK, halves_NK, np.inf).min(axis=1, keepdims=True)
        greatest_N1 = np.where(others_NK, halves_NK, -np.inf).max(axis=1, keepdims=True)
        reach_N1, size_N1 = greatest_N1 - least_N1, np.maximum(np.abs(least_N1), np.abs(greatest_N1))
    else:
        below_NK = _bound_of_components(codec.components, halves_NK)
        reach_N1 = size_N1 = np.where(others_NK, below_NK, 0).max(axis=1, keepdims=True)
    if codec.bits is None:
        rest_N1 = np.maximum(size_N1 * 2.0**-11, 2.0**-25) + np.maximum(size_N1 - 65504, 0)
    else:
        rest_N1 = 2 * size_N1.max() / _LEVELS / 2
    return np.where(others_NK, below_NK + reach_N1 + rest_N1, kept_N[:, None]) + rounding_NK
