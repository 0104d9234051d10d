"""What made a result: versions, hardware, commit. Nothing secret and no path of the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import edc_ray

_PACKAGES = ("torch", "torchvision", "numpy", "pyarrow", "fsspec", "ray", "pillow")


@cache
def environment_facts(device: torch.device) -> dict[str, str]:
    """Versions of what computes, the hardware, and the commit of the code (with '+dirty' if changed)."""
    facts = {"edc_ray": edc_ray.__version__, "commit": _commit(), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "absent"
    facts["hardware"] = _hardware(device)
    return facts


def _hardware(device: torch.device) -> str:
    if device.type == "cuda" and torch.cuda.is_available():  # the driver's own node may have no GPU
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} x {platform.machine()} cores, {device.type}"


def _commit() -> str:
    folder = Path(edc_ray.__file__).parent
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        return head + ("+dirty" if _git(folder, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
