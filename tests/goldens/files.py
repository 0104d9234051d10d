"""The golden numbers: where they are, how they are read, and how close a result must be.

`EDC_RAY_GOLDENS` names another folder of files with the same names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

HERE = Path(__file__).parent / "data"

PROGRAMS = ("cifar10", "in10", "in1k")


def golden_folder() -> Path:
    return Path(os.environ.get("EDC_RAY_GOLDENS", HERE))


def golden_names(pattern: str, programs: Sequence[str] = PROGRAMS) -> list[str]:
    """One file of each official program, whatever the folder holds: a file that is missing fails its test."""
    return [pattern.replace("*", program) for program in programs]


def load_golden(name: str) -> Any:
    """Arrays of an npz file as a dict, or the object of a JSON file. A missing file fails the test."""
    path = golden_folder() / name
    if name.endswith(".json"):
        return json.loads(path.read_text())
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


class Tolerance(TypedDict):
    """Keyword arguments of every allclose."""

    rtol: float
    atol: float


# All tolerances of these tests, from the goldens' own list, for another version of torch.
TOLERANCE: dict[str, Tolerance] = {
    "statistic": {"rtol": 1e-5, "atol": 1e-6},
    "loss": {"rtol": 1e-5, "atol": 1e-6},
    "gradient": {"rtol": 1e-4, "atol": 1e-7},
    "image": {"rtol": 0.0, "atol": 1e-6},
    "parameter": {"rtol": 0.0, "atol": 1e-6},
    "objective_loss": {"rtol": 1e-4, "atol": 0.0},
    "image_first_step": {"rtol": 0.0, "atol": 2e-3},
    "image_at_end": {"rtol": 0.0, "atol": 5e-3},
    # float64 on both sides: a few roundings.
    "schedule": {"rtol": 1e-12, "atol": 1e-15},
    # In units of the last place of the expected float16.
    "fp16_ulp": {"rtol": 0.0, "atol": 1.0},
    # Pixels from 0 to 1, a crop of a Pillow image against ours. One level of 255, and the rounding of the
    # normalised float32: Pillow rounds to 8 bits between its two passes, and which of rows and columns goes
    # first differs between its versions (13 takes rows first in tall narrow crops). What the resize does in
    # one order is tested byte for byte in tests/core.
    "grey_level": {"rtol": 0.0, "atol": 1 / 255 + 1e-6},
}
