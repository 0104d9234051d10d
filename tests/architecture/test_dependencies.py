"""Which layer may import which, and which third-party packages. ARCHITECTURE.md shows the same table."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tests.architecture.source_tree import ROOT, imported_modules, layer_of, python_files


@dataclass(frozen=True)
class Allowed:
    ours: frozenset[str]
    third_party: frozenset[str]


def allowed(ours: str, third_party: str) -> Allowed:
    return Allowed(frozenset(ours.split()), frozenset(third_party.split()))


LAYERS = {
    "version": allowed("", ""),
    "errors": allowed("", ""),
    "digests": allowed("", ""),
    # Its sections are made of the settings in core, which import no torch: test_light_imports.py.
    "config": allowed("errors digests core", "pydantic yaml"),
    "core": allowed("errors", "numpy pydantic torch torchvision"),
    "kernels": allowed("errors core", "torch"),
    "models": allowed("errors core kernels", "fsspec safetensors torch torchvision"),
    "artifacts": allowed("errors", "fsspec numpy pyarrow PIL"),
    "data": allowed(
        "errors digests config artifacts core",
        "filelock fsspec numpy pyarrow PIL sklearn torch torchvision",
    ),
    "stages": allowed("errors version digests config artifacts core kernels models data", "numpy torch"),
    "runs": allowed("errors config artifacts core data models stages", "torch"),
    "cluster": allowed("errors digests config artifacts data stages runs", "ray torch"),
    "report": allowed(
        "errors config artifacts data", "IPython jinja2 matplotlib numpy PIL rich tensorboardX"
    ),
    "sharing": allowed(
        "errors version digests config artifacts core data models stages report",
        "fsspec numpy PIL pyarrow pydantic torch",
    ),
    "launch": allowed("errors config artifacts stages runs cluster report", "torch"),
    "face": allowed("errors config artifacts data models stages runs report sharing launch", "torch"),
    # `import edc_ray`: names of the face and of what it hands out, each imported on first use.
    "": allowed("errors version config data report face", ""),
    "cli": allowed("errors version config artifacts report runs sharing face", "rich typer"),
    "__main__": allowed("cli", ""),
}


def imports_of(path: Path) -> Allowed:
    """What a file imports: our other layers, and third-party packages."""
    ours, third_party = set(), set()
    for module in imported_modules(path):
        top, _, below = module.partition(".")
        if top == "edc_ray":
            ours.add(below.partition(".")[0])
        elif top not in sys.stdlib_module_names:
            third_party.add(top)
    return Allowed(frozenset(ours - {layer_of(path)}), frozenset(third_party))


def test_every_file_belongs_to_a_layer() -> None:
    assert {layer_of(path) for path in python_files("edc_ray")} == set(LAYERS)


def test_a_file_imports_only_what_its_layer_may() -> None:
    refused = {}
    for path in python_files("edc_ray"):
        found, layer = imports_of(path), LAYERS[layer_of(path)]
        if extra := (found.ours - layer.ours) | (found.third_party - layer.third_party):
            refused[str(path)] = sorted(extra)
    assert not refused


def test_only_cluster_may_import_ray() -> None:
    assert [layer for layer, allowed in LAYERS.items() if "ray" in allowed.third_party] == ["cluster"]


def test_the_table_has_no_cycle() -> None:
    done: set[str] = set()
    while len(done) < len(LAYERS):
        ready = {layer for layer, allowed in LAYERS.items() if layer not in done and allowed.ours <= done}
        assert ready, f"a cycle among {sorted(set(LAYERS) - done)}"
        done |= ready


def test_a_job_only_calls_the_command_line() -> None:
    ours = {module for path in python_files("jobs") for module in imported_modules(path)}
    assert {module for module in ours if module.startswith("edc_ray")} <= {"edc_ray.cli"}


def test_architecture_md_shows_the_same_table() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    shown = {cells[0].strip(): cells[2] for cells in lines if cells[0].strip() in LAYERS}
    table = {layer: frozenset(cell.replace(",", " ").split()) for layer, cell in shown.items()}
    assert table == {name: layer.ours for name, layer in LAYERS.items() if name}
