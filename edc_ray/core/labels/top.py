"""The largest logits of each label and one number for the others: top10, ... N labels, K classes, k kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edc_ray.core.labels.bits import pack, pack_subsets, packed_bytes, subset_bits, unpack, unpack_subsets
from edc_ray.core.labels.codec import EncodedLabels, as_halves, in_blocks, shared_array, stored_column
from edc_ray.core.labels.components import ComponentsCodec, Fit

_LEVELS = 255


@dataclass(frozen=True)
class TopCodec:
    """The k largest logits (on a tie the first classes), and one number for the mass of the others.

    Any other class is decoded as background + rest. The background is 0, or what the principal `components`
    give. `rest` is one number for each label. It gives the other classes together their mass at the
    `temperature` T: sum exp(decoded / T) = sum exp(logit / T). At a high T that makes it the mean of their
    logits, which has the least squared error. With k >= K all are kept.

    Columns: `logits_classes` packed, see `pack_subsets`; `logits_values`, by ascending class: float16 [N, k],
    or packed codes of `bits` each between `logits_low` and `logits_high`; `logits_rest` float16 [N]. With
    `bits`, low, high and rest are uint8 [N]: whole numbers of units above a base. The shared arrays
    `value_range` and `rest_range` hold base and unit.
    """

    size: int  # k
    bits: int | None = None  # 2 to 8; None keeps half precision
    temperature: float = 1.0
    components: ComponentsCodec | None = None

    @property
    def name(self) -> str:
        warm = "" if self.temperature == 1 else f"t{self.temperature:g}"
        parts = [
            self.components.name if self.components else "",
            f"top{self.size}{warm}",
            f"q{self.bits}" if self.bits else "",
        ]
        return "_".join(part for part in parts if part)

    def encode(self, logits_NK: np.ndarray, fit: Fit | None = None) -> EncodedLabels:
        """The columns to store. `fit`: components of other labels to use for the background."""
        halves_NK = as_halves(logits_NK, self.name)
        count, num_classes = halves_NK.shape
        below = EncodedLabels({}, num_classes)
        if self.components is not None and self.size < num_classes:
            below = self.components.encode(halves_NK, fit)

        def columns(rows: slice) -> dict[str, np.ndarray]:
            classes_Nk = _largest(halves_NK[rows], self.size)
            kept = {
                "logits_classes": pack_subsets(classes_Nk, num_classes),
                "logits_values": np.take_along_axis(halves_NK[rows], classes_Nk, axis=1),
            }
            if self.size >= num_classes:
                return {"logits_values": kept["logits_values"]}
            background_NK = self._background(below, rows)
            return kept | {"logits_rest": self._rest(halves_NK[rows], background_NK, classes_Nk)}

        found = in_blocks(columns, count)
        if self.bits is None:
            limit = np.finfo(np.float16).max
            if "logits_rest" in found:
                found["logits_rest"] = np.clip(found["logits_rest"], -limit, limit).astype(np.float16)
            shared: dict[str, np.ndarray] = {}
        else:
            found, shared = _quantised(found, self.bits)
        return EncodedLabels({**below.columns, **found}, num_classes, {**below.shared, **shared})

    def decode(self, encoded: EncodedLabels) -> np.ndarray:
        num_classes, size = encoded.num_classes, min(self.size, encoded.num_classes)
        values_Nk = self._values(encoded, size)
        if size == num_classes:
            return values_Nk
        width = packed_bytes(subset_bits(num_classes, size))
        classes_NB = stored_column(encoded, "logits_classes", np.uint8, width)
        if self.bits is None:
            rest_N = stored_column(encoded, "logits_rest", np.float16).astype(np.float32)
        else:
            rest_N = _on_grid(encoded, "logits_rest", "rest_range").astype(np.float32)

        def columns(rows: slice) -> dict[str, np.ndarray]:
            logits_NK = self._background(encoded, rows) + rest_N[rows, None]
            classes_Nk = unpack_subsets(classes_NB[rows], num_classes, size)
            np.put_along_axis(logits_NK, classes_Nk, values_Nk[rows], axis=1)
            return {"": logits_NK}

        return in_blocks(columns, len(rest_N))[""]

    def _background(self, encoded: EncodedLabels, rows: slice) -> np.ndarray:
        if self.components is None:
            return np.zeros((rows.stop - rows.start, encoded.num_classes), np.float32)
        part = {name: column[rows] for name, column in encoded.columns.items() if name == "logits_components"}
        return self.components.decode(EncodedLabels(part, encoded.num_classes, encoded.shared))

    def _rest(self, halves_NK: np.ndarray, background_NK: np.ndarray, classes_Nk: np.ndarray) -> np.ndarray:
        """float64 [N]: log of the mass of the other classes, less log of the mass of their background."""
        masses = []
        for logits_NK in (halves_NK, background_NK):
            others_NK = logits_NK / np.float64(self.temperature)
            np.put_along_axis(others_NK, classes_Nk, -np.inf, axis=1)
            top_N1 = others_NK.max(axis=1, keepdims=True)
            masses.append(top_N1[:, 0] + np.log(np.exp(others_NK - top_N1).sum(axis=1)))
        return self.temperature * (masses[0] - masses[1])

    def _values(self, encoded: EncodedLabels, size: int) -> np.ndarray:
        if self.bits is None:
            return stored_column(encoded, "logits_values", np.float16, size).astype(np.float32)
        low_N, high_N = (
            _on_grid(encoded, f"logits_{end}", "value_range").astype(np.float32) for end in ("low", "high")
        )
        codes_NB = stored_column(encoded, "logits_values", np.uint8, packed_bytes(size * self.bits))
        codes_Nk = unpack(codes_NB, np.full(size, self.bits)).astype(np.float32)
        step_N = (high_N - low_N) / np.float32(2**self.bits - 1)
        return low_N[:, None] + codes_Nk * step_N[:, None]


def _largest(logits_NK: np.ndarray, size: int) -> np.ndarray:
    """Classes of the largest logits of each row, ascending; on a tie the first classes."""
    count, num_classes = logits_NK.shape
    if size >= num_classes:
        return np.tile(np.arange(num_classes), (count, 1))
    last_N1 = np.partition(logits_NK, num_classes - size, axis=1)[:, num_classes - size, None]
    above_NK, equal_NK = logits_NK > last_N1, logits_NK == last_N1
    missing_N1 = size - above_NK.sum(axis=1, keepdims=True)
    kept_NK = above_NK | (equal_NK & (np.cumsum(equal_NK, axis=1) <= missing_N1))
    return np.nonzero(kept_NK)[1].reshape(count, size)


def _quantised(
    found: Mapping[str, np.ndarray], bits: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The columns with whole numbers for `logits_values` and `logits_rest`, and their grids."""
    values_Nk = found["logits_values"].astype(np.float64)
    columns = dict(found)
    base, unit = value_range = _grid(values_Nk)
    low_N = np.clip(np.floor((values_Nk.min(axis=1) - base) / unit), 0, _LEVELS)
    high_N = np.clip(np.ceil((values_Nk.max(axis=1) - base) / unit), 0, _LEVELS)
    columns |= {"logits_low": low_N.astype(np.uint8), "logits_high": high_N.astype(np.uint8)}
    step_N = (high_N - low_N) * unit / (2**bits - 1)
    above_Nk = values_Nk - (base + low_N * unit)[:, None]
    codes_Nk = np.rint(above_Nk / np.where(step_N > 0, step_N, 1)[:, None]).clip(0, 2**bits - 1)
    columns["logits_values"] = pack(codes_Nk.astype(np.int64), np.full(values_Nk.shape[1], bits))
    shared = {"value_range": np.array(value_range, np.float64)}
    if "logits_rest" in found:
        base, unit = rest_range = _grid(found["logits_rest"])
        codes_N = np.rint((found["logits_rest"] - base) / unit).clip(0, _LEVELS)
        columns["logits_rest"] = codes_N.astype(np.uint8)
        shared["rest_range"] = np.array(rest_range, np.float64)
    return columns, shared


def _grid(values: np.ndarray) -> tuple[float, float]:
    """Base and unit of 256 numbers from the least to the greatest value."""
    if not values.size:
        return 0.0, 1.0
    base, span = float(values.min()), float(values.max() - values.min())
    return base, span / _LEVELS if span > 0 else 1.0


def _on_grid(encoded: EncodedLabels, name: str, grid: str) -> np.ndarray:
    base, unit = shared_array(encoded, grid, np.float64, (2,))
    if max(abs(base), abs(unit)) > 1e6:
        raise ValueError(f"{grid} of {base} and {unit}")
    return base + stored_column(encoded, name, np.uint8) * unit
