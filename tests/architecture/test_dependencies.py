"""Which third-party packages each layer may import. test_rooms.py asks the same of our own."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.architecture.source_tree import imported_modules, layer_of, python_files

THIRD_PARTY = {
    "version": "",
    "errors": "",
    "digests": "",
    "own_code": "",
    "config": "pydantic yaml",
    "core": "numpy pydantic torch torchvision",
    "kernels": "torch triton",
    "models": "filelock fsspec safetensors torch torchvision",
    "artifacts": "fsspec numpy pyarrow pydantic PIL tenacity",
    "data": "filelock fsspec numpy pyarrow PIL sklearn torch torchvision",
    "stages": "numpy torch",
    "runs": "pydantic torch",
    "cluster": "ray",
    "report": "IPython jinja2 matplotlib numpy PIL rich tensorboardX",
    "sharing": "jinja2 numpy pyarrow pydantic torch",
    "launch": "torch",
    "face": "torch",
    "": "",
    "cli": "rich typer",
    "__main__": "",
}


def third_party(path: Path) -> set[str]:
    tops = {module.partition(".")[0] for module in imported_modules(path)}
    return tops - sys.stdlib_module_names - {"edc_ray"}


def test_every_file_belongs_to_a_layer() -> None:
    assert {layer_of(path) for path in python_files("edc_ray")} == set(THIRD_PARTY)


def test_a_layer_imports_the_packages_that_are_listed_for_it_and_no_others() -> None:
    found: dict[str, set[str]] = {layer: set() for layer in THIRD_PARTY}
    for path in python_files("edc_ray"):
        found[layer_of(path)] |= third_party(path)
    assert found == {layer: set(packages.split()) for layer, packages in THIRD_PARTY.items()}


def test_a_job_only_calls_the_command_line() -> None:
    ours = {module for path in python_files("jobs") for module in imported_modules(path)}
    assert {module for module in ours if module.startswith("edc_ray")} <= {"edc_ray.cli"}
