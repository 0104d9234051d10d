"""Nothing that is read from storage can run code."""

from __future__ import annotations

import ast

import yaml

from edc_ray.config import yaml_values
from edc_ray.sharing.formats import official_labels
from tests.architecture.source_tree import calls, imported_names, place, python_files

UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
REFUSED_CALLS = {"eval", "exec", "yaml.load_all"}
SAFE_YAML_LOADERS = {
    "edc_ray/config/yaml_values.py": "_Loader, a SafeLoader with the plain forms of YAML 1.2"
}
REFUSED_METHODS = {"read_pickle", "unsafe_load", "full_load", "add_safe_globals"}
FILES = python_files("edc_ray", "jobs", "benchmarks")


# File -> why it may widen what torch.load accepts, for the length of one call.
ALLOW_LISTS = {
    "edc_ray/sharing/formats/official_labels.py": "numpy's integers and floats, which official labels hold"
}
# A name on an allow-list can be called with any arguments: none of these may do anything but make a value.
HARMLESS = {"numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar", "numpy.dtype", "_codecs.encode"}


def literal(call: ast.Call, name: str) -> object:
    for keyword in call.keywords:
        if keyword.arg == name and isinstance(keyword.value, ast.Constant):
            return keyword.value.value
    return None


def is_refused(name: str, call: ast.Call) -> bool:
    if name == "torch.load":
        return literal(call, "weights_only") is not True
    if name in ("np.load", "numpy.load"):
        return literal(call, "allow_pickle") is not False
    return name in REFUSED_CALLS or name.rpartition(".")[2] in REFUSED_METHODS


def test_nothing_imports_an_unpickler() -> None:
    assert not [str(path) for path in FILES if imported_names(path) & UNPICKLERS]


def test_arrays_weights_and_yaml_are_loaded_only_as_data() -> None:
    found = [(path, name, call) for path in FILES for name, call in calls(path)]
    assert not [f"{place(path, call)} {name}" for path, name, call in found if is_refused(name, call)]


def test_yaml_is_loaded_by_safe_loaders_only() -> None:
    users = {str(path) for path in FILES for name, _ in calls(path) if name in ("yaml.load", "_Loader")}
    assert users == set(SAFE_YAML_LOADERS)
    assert issubclass(yaml_values._Loader, yaml.SafeLoader)


def test_types_are_allowed_to_torch_only_where_it_is_said_and_they_make_values() -> None:
    users = {str(path) for path in FILES for name, _ in calls(path) if name.endswith("safe_globals")}
    assert users == set(ALLOW_LISTS)
    names = set()
    for allowed in official_labels._ALLOWED:
        made, name = allowed if isinstance(allowed, tuple) else (allowed, None)
        names.add(name or f"{made.__module__}.{made.__qualname__}")
    assert {name for name in names if not name.startswith("numpy.dtypes.")} <= HARMLESS
    assert not {name for name in names if "object" in name.lower() or "void" in name.lower()}
