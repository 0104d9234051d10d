"""The golden numbers: where they are, how they are read, and how near a result must come.

`EDC_RAY_GOLDENS` names another folder of files with the same names.
"""

from __future__ import annotations

import fnmatch
import json
import os
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

HERE = Path(__file__).parent / "data"


def golden_folder() -> Path:
    return Path(os.environ.get("EDC_RAY_GOLDENS", HERE))


def golden_names(pattern: str) -> list[str]:
    """Names of the committed golden files that match; another folder must hold the same names."""
    return sorted(name for name in os.listdir(HERE) if fnmatch.fnmatch(name, pattern))


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


# From the goldens' own listing: (rtol, atol) on a CPU of the same torch version or another.
TOLERANCE: dict[str, Tolerance] = {
    "statistic": {"rtol": 1e-5, "atol": 1e-6},
    "loss": {"rtol": 1e-5, "atol": 1e-6},
    "gradient": {"rtol": 1e-4, "atol": 1e-7},
    "image": {"rtol": 0.0, "atol": 1e-6},
    "objective_loss": {"rtol": 1e-4, "atol": 0.0},
    "image_first_step": {"rtol": 0.0, "atol": 2e-3},
    "image_at_end": {"rtol": 0.0, "atol": 5e-3},
    "schedule": {"rtol": 1e-12, "atol": 1e-15},
}
