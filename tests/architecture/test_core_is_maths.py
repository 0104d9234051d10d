"""core: tensors in, tensors out. No disk, no screen, no choice of device, no global random state."""

from __future__ import annotations

import ast

from tests.architecture.source_tree import calls, imported_modules, place, python_files

CORE = python_files("edc_ray/core")
REFUSED_MODULES = {"random", "os", "pathlib", "io", "subprocess", "logging", "socket", "time", "secrets"}
REFUSED_CALLS = {"print", "open"}
REFUSED_OF_TORCH = {"manual_seed", "seed", "save", "load", "set_num_threads", "set_default_dtype"}
REFUSED_METHODS = {"cuda", "mps"}
# What numpy.random holds besides its global generator's functions.
STATELESS_RANDOM = {"RandomState", "Generator", "Philox", "PCG64", "SeedSequence"}
# They draw from torch's global generator unless they are given one.
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "bernoulli", "multinomial", "normal", "poisson"}


def is_refused(name: str, call: ast.Call) -> bool:
    owner, _, last = name.rpartition(".")
    if owner in ("np.random", "numpy.random"):
        return last not in STATELESS_RANDOM
    if owner == "torch" and last in TORCH_DRAWS:
        return not any(keyword.arg == "generator" for keyword in call.keywords)
    return name in REFUSED_CALLS or last in REFUSED_METHODS or (owner == "torch" and last in REFUSED_OF_TORCH)


def test_core_imports_nothing_of_the_world() -> None:
    imported = {(str(path), module.partition(".")[0]) for path in CORE for module in imported_modules(path)}
    assert not {(path, module) for path, module in imported if module in REFUSED_MODULES}


def test_core_touches_no_disk_screen_device_or_global_generator() -> None:
    found = [(path, name, call) for path in CORE for name, call in calls(path)]
    assert not [f"{place(path, call)} {name}" for path, name, call in found if is_refused(name, call)]
