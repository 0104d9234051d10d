"""All logits of a label on a grid of its own: q2 to q8. N labels, K classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edc_ray.core.labels.bits import pack, packed_bytes, unpack
from edc_ray.core.labels.codec import EncodedLabels, as_halves, in_blocks, stored_column


@dataclass(frozen=True)
class QuantisedCodec:
    """Each label's logits as multiples of a step above its lowest: low + code * step.

    Columns: `logits_low` and `logits_step` float16 [N], `logits_codes` packed [N, K] of `bits` each (2 to 8),
    in class order. The grid spans the label's logits, so an error is at most half a step.
    """

    bits: int

    @property
    def name(self) -> str:
        return f"q{self.bits}"

    def encode(self, logits_NK: np.ndarray) -> EncodedLabels:
        halves_NK = as_halves(logits_NK, self.name)
        widths_K = np.full(halves_NK.shape[1], self.bits)

        def columns(rows: slice) -> dict[str, np.ndarray]:
            low_N, step_N = self._grid(halves_NK[rows])
            above_NK = halves_NK[rows].astype(np.float64) - low_N[:, None]
            scale_N1 = np.where(step_N > 0, step_N, 1).astype(np.float64)[:, None]
            codes_NK = np.rint(above_NK / scale_N1).astype(np.int64)
            return {
                "logits_low": low_N,
                "logits_step": step_N,
                "logits_codes": pack(np.clip(codes_NK, 0, 2**self.bits - 1), widths_K),
            }

        return EncodedLabels(in_blocks(columns, len(halves_NK)), halves_NK.shape[1])

    def decode(self, encoded: EncodedLabels) -> np.ndarray:
        low_N = stored_column(encoded, "logits_low", np.float16).astype(np.float32)
        step_N = stored_column(encoded, "logits_step", np.float16).astype(np.float32)
        width = packed_bytes(self.bits * encoded.num_classes)
        codes_NB = stored_column(encoded, "logits_codes", np.uint8, width)
        widths_K = np.full(encoded.num_classes, self.bits)

        def columns(rows: slice) -> dict[str, np.ndarray]:
            codes_NK = unpack(codes_NB[rows], widths_K).astype(np.float32)
            return {"": low_N[rows, None] + codes_NK * step_N[rows, None]}

        return in_blocks(columns, len(low_N))[""]

    def _grid(self, halves_NK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest logit and step of each label. Steps are rounded up, so that the grid reaches the highest."""
        low_N = halves_NK.min(axis=1)
        span_N = halves_NK.max(axis=1).astype(np.float64) - low_N.astype(np.float64)
        exact_N = span_N / (2**self.bits - 1)
        step_N = exact_N.astype(np.float16)
        return low_N, np.where(step_N < exact_N, np.nextafter(step_N, np.float16(np.inf)), step_N)
