"""What made a result: versions, hardware, commit. Nothing secret and no path of the machine.

Each unit says what made it: a run goes on on other machines, and with other versions of the code.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import edc_ray

_PACKAGES = ("torch", "torchvision", "numpy", "pyarrow", "fsspec", "ray", "pillow")


@cache
def environment_facts(device: torch.device) -> dict[str, str]:
    """Versions of what computes, the hardware, and the commit of the code (with '+dirty' if changed).

    Looked up once in a process. Call it before the first unit: the code on disk may change while it runs.
    """
    facts = {"edc_ray": edc_ray.__version__, "commit": _commit(), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "absent"
    facts["hardware"] = _hardware(device)
    return facts


def joined_facts(environments: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Facts of several makers as one: where they differ, all values in order, separated by '; '."""
    joined: dict[str, dict[str, None]] = {}
    for environment in environments:
        for name, value in environment.items():
            joined.setdefault(name, {})[value] = None
    return {name: "; ".join(sorted(values)) for name, values in joined.items()}


def _hardware(device: torch.device) -> str:
    if device.type == "cuda" and torch.cuda.is_available():  # the driver's own node may have no GPU
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} x {platform.machine()} cores, {device.type}"


def _commit() -> str:
    # What a job or an image is built from has no .git: whoever builds it says the commit.
    given = os.environ.get("EDC_RAY_COMMIT", "")
    if re.fullmatch(r"[0-9a-f]{7,40}(\+dirty)?", given):
        return given
    folder = Path(edc_ray.__file__).parent
    try:
        # An installation below somebody's repository is no part of it.
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        return head + ("+dirty" if _git(folder, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
