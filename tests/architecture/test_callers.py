"""Nothing ships that only tests call."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.source_tree import parsed, python_files

CALLERS = python_files("edc_ray", "jobs", "examples")
# Names that a file is asked for when it has been imported by its name, or that Python asks for.
ASKED_FOR = {"STAGE", "METHODS", "VALUES", "CITATION", "adjusted", "__getattr__", "__dir__", "__all__"}
# Decorators that do so.
HAND_ON = ("app.", "operation(")
# Files whose strings name what they hand out: the public face, networks by name.
NAME_OTHERS = [Path("edc_ray/__init__.py"), Path("edc_ray/models/registry.py")]


def names_defined(statement: ast.stmt) -> list[str]:
    """What a statement of a file defines, unless a decorator hands it on: to the command line, to torch."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        handed_on = any(
            isinstance(one, ast.Call) and any(each in ast.unparse(one) for each in HAND_ON)
            for one in statement.decorator_list
        )
        return [] if handed_on else [statement.name]
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return []
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def names_read(statement: ast.stmt) -> set[str]:
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def unused_here(tree: ast.Module) -> Iterator[str]:
    """Names that a file defines and no other statement of it reads; what registers itself is left out."""
    read = [names_read(statement) for statement in tree.body]
    for place, statement in enumerate(tree.body):
        if any(ast.unparse(one) == "atexit.register" for one in getattr(statement, "decorator_list", ())):
            continue
        elsewhere = set().union(*read[:place], *read[place + 1 :])
        yield from (name for name in names_defined(statement) if name not in elsewhere)


def used_elsewhere() -> set[tuple[str, str]]:
    """(module, name) of every import, and of every attribute of a module that is imported as a name."""
    found = set()
    for path in CALLERS:
        modules: dict[str, str] = {}
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {(node.module, alias.name) for alias in node.names}
                modules |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        for node in ast.walk(parsed(path)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in modules
            ):
                found.add((modules[node.value.id], node.attr))
    return found


def named_in_strings() -> set[str]:
    nodes = (node for path in NAME_OTHERS for node in ast.walk(parsed(path)))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def test_every_function_class_and_constant_has_a_caller_that_is_no_test() -> None:
    used, named = used_elsewhere(), named_in_strings() | ASKED_FOR
    idle = [
        f"{path}: {name}"
        for path in python_files("edc_ray")
        for name in unused_here(parsed(path))
        if name not in named and (module_of(path), name) not in used
    ]
    assert not idle


def test_a_name_that_only_its_own_definition_reads_is_unused() -> None:
    tree = ast.parse("def walk(n): return walk(n - 1)\nLIMIT = 3\ndef go(): return LIMIT\n")
    assert list(unused_here(tree)) == ["walk", "go"]
