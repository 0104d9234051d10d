"""The repository's Python files, parsed once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python_files(*folders: str) -> list[Path]:
    """All Python files below the folders, relative to the repository."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT) for path in found)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def layer_of(path: Path) -> str:
    """'core' for edc_ray/core/x.py, 'cli' for edc_ray/cli.py, '' for edc_ray/__init__.py."""
    first = path.parts[1].removesuffix(".py")
    return "" if first == "__init__" else first


def imported_modules(path: Path) -> set[str]:
    """Absolute names of all modules a file imports, wherever in the file it does."""
    modules = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(path, node)
            modules |= {_file_or_folder(module, alias.name) for alias in node.names}
    return modules


def _file_or_folder(module: str, name: str) -> str:
    """`from edc_ray.runs import same_run` imports the file that it names, other names the module alone."""
    below = ROOT / Path(*module.split("."), name)
    return f"{module}.{name}" if below.is_dir() or below.with_suffix(".py").is_file() else module


def imported_names(path: Path) -> set[str]:
    """Every word of a file's imported names: 'ray' and 'cloudpickle' for `from ray import cloudpickle`."""
    words = {word for module in imported_modules(path) for word in module.split(".")}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom):
            words |= {alias.name for alias in node.names}
    return words


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a file with the dotted name of what is called, or '' if that is no name."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def dotted(node: ast.expr) -> str:
    """'np.random.seed' for such an expression; a part that is not a name is empty."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def place(path: Path, node: ast.AST) -> str:
    return f"{path}:{getattr(node, 'lineno', 0)}"


def _absolute(path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = path.parts[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])
