"""How soft labels are stored. N labels, K classes.

A codec turns float32 logits into a few numpy columns and back; an artifact names its codec. `LABEL_CODECS`
holds all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from edc_ray.errors import NumericalError


class LabelCodec(Protocol):
    """Logits <-> columns whose first axis is N."""

    name: str

    def encode(self, logits_NK: np.ndarray) -> dict[str, np.ndarray]:
        """Columns to store."""
        ...

    def decode(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits, float32 [N, K]."""
        ...

    def error_bound(self, logits_NK: np.ndarray) -> np.ndarray:
        """Largest |decoded - logits| there can be, elementwise."""
        ...


class Fp16Codec:
    """Half-precision floats, one column `logits` of float16 [N, K]. What already is float16 comes back
    exactly."""

    name = "fp16"

    def encode(self, logits_NK: np.ndarray) -> dict[str, np.ndarray]:
        """Round to the nearest half-precision number.

        Raises:
            NumericalError: a logit is not finite or rounds to infinity (beyond 65519).
        """
        with np.errstate(over="ignore"):
            halves_NK = np.asarray(logits_NK).astype(np.float16)
        wrong = ~np.isfinite(halves_NK)
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise NumericalError(
                "a soft label cannot be stored as fp16",
                found=f"logit {np.asarray(logits_NK)[row, column]} of row {row}, class {column}",
                expected="finite logits of at most 65504",
            )
        return {"logits": halves_NK}

    def decode(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Exact: every half-precision number is a float32."""
        return np.asarray(columns["logits"]).astype(np.float32)

    def error_bound(self, logits_NK: np.ndarray) -> np.ndarray:
        """Half a unit in the last place: 2**-11 of the logit, 2**-25 below the normal numbers."""
        return np.maximum(np.abs(np.asarray(logits_NK, dtype=np.float64)) * 2.0**-11, 2.0**-25)


LABEL_CODECS: dict[str, LabelCodec] = {codec.name: codec for codec in (Fp16Codec(),)}
