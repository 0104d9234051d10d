"""A benchmark runs where Ray is not installed, as on a bare machine with a GPU."""

from __future__ import annotations

import ast
from pathlib import Path

import gpu
import pytest

# A process of its own, which bench_start.py asks for Ray only where it is installed.
OF_RAY = "first_unit.py"
FILES = sorted(path for path in Path(gpu.__file__).parent.rglob("*.py") if path.name != OF_RAY)


def imported(source: str) -> set[str]:
    """All modules that a source imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_benchmark_imports_ray_or_the_layer_that_needs_it(path: Path) -> None:
    found = imported(path.read_text(encoding="utf-8"))
    assert not [name for name in found if f"{name}.".startswith(("ray.", "edc_ray.cluster."))]


def test_an_import_is_found_wherever_it_stands() -> None:
    source = "def f():\n    from edc_ray.cluster import work_queue\nimport ray\n"
    assert imported(source) == {"edc_ray.cluster.work_queue", "ray"}
