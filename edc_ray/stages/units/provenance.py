"""What made a result: versions, hardware, commit. No secret and no local path.

Each unit records it: a run may resume on another machine or with another version of the code.
"""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import torch

from edc_ray.version import __version__, commit

_PACKAGES = ("torch", "torchvision", "numpy", "pyarrow", "fsspec", "ray", "pillow")


@cache
def environment_facts(device: torch.device) -> dict[str, str]:
    """Versions, hardware and commit ('+dirty' if changed). Call it before the first unit: code may change."""
    facts = {"edc_ray": __version__, "commit": commit(), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "absent"
    facts["hardware"] = f"{os.cpu_count()} x {platform.machine()} cores, {device.type}"
    if device.type == "cuda" and torch.cuda.is_available():  # the driver's own node may have no GPU
        facts["hardware"] = torch.cuda.get_device_name(device)
    return facts


def memory_facts(device: torch.device) -> dict[str, int]:
    """The most bytes of a CUDA device that this process has held so far; nothing elsewhere."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return {}
    return {"device_bytes": torch.cuda.max_memory_reserved(device)}


def joined_facts(environments: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Facts of several environments as one: different values in order, separated by '; '."""
    joined = defaultdict[str, set[str]](set)
    for environment in environments:
        for name, value in environment.items():
            joined[name].add(value)
    return {name: "; ".join(sorted(values)) for name, values in joined.items()}
