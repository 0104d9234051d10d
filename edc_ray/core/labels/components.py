"""A table's logits by their principal components: pca32, ... N labels, K classes, R components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from edc_ray.core.labels.bits import pack, packed_bytes, unpack
from edc_ray.core.labels.codec import EncodedLabels, as_halves, in_blocks, shared_array, stored_column

MAX_BITS = 10
# Least squared error, and the step that has it, when 0, 1, ... bits quantise a Gaussian of variance 1.
_ERRORS = np.array([1, 0.3634, 0.1188, 0.03744, 0.01154, 0.003495, 0.00104, 0.000304, 8.77e-5, 2.5e-5, 7e-6])
_STEPS = np.array([0, 1.596, 0.9957, 0.586, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308, 0.0165, 0.0088])
_STRETCHES = np.linspace(0.7, 2.2, 16)
_FIT_ROWS = 8192


@dataclass(frozen=True)
class Components:
    """What the labels of a table have in common."""

    mean: np.ndarray  # float32 [K], of the logits
    bits: np.ndarray  # uint8 [R], of each component's code, from the largest variance to the least
    half_steps: np.ndarray  # int16 [R, K]: a code c of b bits adds (2c + 1 - 2**b) times its row
    exponent: int  # the unit of half_steps is 2**-exponent


class Fit(NamedTuple):
    """Components of a table, their unit vectors float64 [R, K], and the steps [R] of their codes."""

    components: Components
    axes: np.ndarray
    steps: np.ndarray


@dataclass(frozen=True)
class ComponentsCodec:
    """The mean of all labels of the table plus multiples of its principal components.

    `logits_components` packed [N, R]: the codes of the label's components, `bits` in all. Each bit goes where
    it reduces the squared error most. Shared: `mean`, `bits`, `half_steps` and `exponent` of `Components`.
    Sums are of whole numbers, so every machine decodes the same.
    """

    bits: int

    @property
    def name(self) -> str:
        return f"pca{self.bits}"

    def encode(self, logits_NK: np.ndarray, fit: Fit | None = None) -> EncodedLabels:
        """The columns to store, with the components of these labels, or with `fit`, those of others."""
        halves_NK = as_halves(logits_NK, self.name)
        components, axes_RK, steps_R = fit or self.fit(halves_NK)
        widths_R = components.bits.astype(np.int64)

        def columns(rows: slice) -> dict[str, np.ndarray]:
            levels_NR = _levels(_projected(halves_NK[rows], components.mean, axes_RK), steps_R, widths_R)
            return {"logits_components": pack(levels_NR, widths_R)}

        shared = {
            "mean": components.mean, "bits": components.bits, "half_steps": components.half_steps,
            "exponent": np.array(components.exponent, np.int16),
        }  # fmt: skip
        return EncodedLabels(in_blocks(columns, len(halves_NK)), halves_NK.shape[1], shared)

    def decode(self, encoded: EncodedLabels) -> np.ndarray:
        components = self._stored(encoded)
        widths_R = components.bits.astype(np.int64)
        width = packed_bytes(int(widths_R.sum()))
        codes_NB = stored_column(encoded, "logits_components", np.uint8, width)

        def columns(rows: slice) -> dict[str, np.ndarray]:
            odd_NR = 2 * unpack(codes_NB[rows], widths_R) + 1 - 2**widths_R
            # Exact in float64 in any order of the sum: below 2**(MAX_BITS + 15) * R.
            sums_NK = odd_NR.astype(np.float64) @ components.half_steps.astype(np.float64)
            return {"": components.mean + np.ldexp(sums_NK, -components.exponent).astype(np.float32)}

        return in_blocks(columns, len(codes_NB))[""]

    def fit(self, halves_NK: np.ndarray) -> Fit:
        """The components of some labels, float16 [N, K]."""
        mean_K, variances, vectors = _principal_components(halves_NK)
        bits_R = _dealt_bits(variances, self.bits)
        axes_RK = vectors[: len(bits_R)]
        sample_NK = halves_NK[:: max(1, len(halves_NK) // _FIT_ROWS)]
        places_NR = _projected(sample_NK, mean_K, axes_RK)
        steps_R = _best_steps(places_NR, np.sqrt(variances[: len(bits_R)]), bits_R)
        halves_RK = axes_RK * steps_R[:, None] / 2
        largest = float(np.abs(halves_RK).max(initial=0))
        # The finest power of two with which the largest entry fits 15 bits. Any works without variance.
        exponent = 14 - int(np.ceil(np.log2(largest))) if largest > 2.0**-100 else 0
        whole_RK = np.rint(np.ldexp(halves_RK, exponent)).astype(np.int16)
        return Fit(Components(mean_K, bits_R.astype(np.uint8), whole_RK, exponent), axes_RK, steps_R)

    def _stored(self, encoded: EncodedLabels) -> Components:
        classes = encoded.num_classes
        mean_K = shared_array(encoded, "mean", np.float32, (classes,))
        count = len(np.atleast_1d(encoded.shared.get("bits", ())))
        bits_R = shared_array(encoded, "bits", np.uint8, (count,))
        if count > classes or int(bits_R.sum()) > self.bits or (bits_R > MAX_BITS).any():
            raise ValueError(f"components of {bits_R.tolist()} bits are not those of {self.name}")
        half_steps_RK = shared_array(encoded, "half_steps", np.int16, (count, classes))
        exponent = int(shared_array(encoded, "exponent", np.int16, ()))
        if abs(exponent) > 120:
            raise ValueError(f"half_steps in units of 2**{-exponent}")
        return Components(mean_K, bits_R, half_steps_RK, exponent)


def _principal_components(halves_NK: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean float32 [K], variances [K] from the largest, and their unit vectors as rows [K, K]."""
    count, classes = halves_NK.shape
    mean_K = halves_NK.mean(axis=0, dtype=np.float64).astype(np.float32) if count else np.zeros(classes, "f4")
    scatter_KK = torch.zeros(classes, classes, dtype=torch.float64)
    for first in range(0, count, _FIT_ROWS):
        centred = torch.from_numpy(halves_NK[first : first + _FIT_ROWS] - mean_K.astype(np.float64))
        scatter_KK += centred.T @ centred
    variances, vectors = torch.linalg.eigh(scatter_KK / max(count, 1))
    return mean_K, variances.flip(0).clamp(min=0).numpy(), vectors.flip(1).T.contiguous().numpy()


def _dealt_bits(variances: np.ndarray, total: int) -> np.ndarray:
    """Bits of the first components: each bit goes where it reduces the squared error most."""
    bits = np.zeros(len(variances), np.int64)
    gains = -np.diff(_ERRORS)
    for _ in range(total):
        gain = np.where(bits < MAX_BITS, variances * gains[np.minimum(bits, MAX_BITS - 1)], -1)
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        bits[best] += 1
    return bits[: int((bits > 0).sum())]


def _best_steps(places_NR: np.ndarray, deviations_R: np.ndarray, bits_R: np.ndarray) -> np.ndarray:
    """The step of each component with the least squared error, near the best step for a Gaussian."""
    candidates = _STRETCHES[:, None] * _STEPS[bits_R] * deviations_R
    errors = []
    for steps in candidates:
        decoded_NR = (_levels(places_NR, steps, bits_R) + 0.5 - 2.0 ** (bits_R - 1)) * steps
        errors.append(np.square(places_NR - decoded_NR).sum(0))
    return np.take_along_axis(candidates, np.stack(errors).argmin(axis=0)[None], axis=0)[0]


def _levels(places_NR: np.ndarray, steps_R: np.ndarray, bits_R: np.ndarray) -> np.ndarray:
    levels_NR = np.floor(places_NR / np.where(steps_R > 0, steps_R, 1)).astype(np.int64) + 2 ** (bits_R - 1)
    return np.clip(levels_NR, 0, 2**bits_R - 1)


def _projected(halves_NK: np.ndarray, mean_K: np.ndarray, axes_RK: np.ndarray) -> np.ndarray:
    centred = torch.from_numpy(halves_NK.astype(np.float64) - mean_K)
    return (centred @ torch.from_numpy(np.ascontiguousarray(axes_RK.T))).numpy()
