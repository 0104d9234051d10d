"""Nothing that is stored is read without a limit: what others wrote may be of any size."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.source_tree import dotted, parsed, place, python_files

# The names in our code of the things that read bytes of files. A reader of another name needs its own limit.
STORES = {"store", "_store", "target"}
FILES = {"file", "archive"}
WHOLE = {"read_bytes", "read_text", "cat_file", "cat_ranges", "readall"}
# Function -> why it may read a whole file.
ALLOWED = {
    "edc_ray/face/configs.py:load_config": "a file of settings that the user names on this machine",
    "edc_ray/kernels/cpu/library.py:compiled_library": "the package's own files",
    "edc_ray/kernels/cpu/library.py:_processor": "the kernel's own file",
    "edc_ray/models/weight_files.py:fetch_weights": "a copy that this program made",
    "edc_ray/report/run_report.py:_tensorboard_files": "files that this process has just written",
}


def reads(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Expressions of a file that may read a whole file, each with the function it stands in."""
    tree = parsed(path)
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute) and is_unlimited(node, called.get(id(node))):
                    yield f"{path}:{function.name}", node


def is_unlimited(method: ast.Attribute, call: ast.Call | None) -> bool:
    """A method that reads bytes, called without a limit or passed to a caller."""
    owner, words = (
        dotted(method.value).rpartition(".")[2],
        {one.arg for one in call.keywords} if call else set(),
    )
    if method.attr == "read_if_there" or (method.attr == "read" and owner in STORES):
        return "limit" not in words
    if method.attr == "read" and owner in FILES:
        return call is None or not call.args
    return method.attr in WHOLE and not words & {"end", "ends"}


def test_what_is_stored_is_read_with_a_limit() -> None:
    found = [
        (name, place(path, node)) for path in python_files("edc_ray", "jobs") for name, node in reads(path)
    ]
    assert not [where for name, where in found if name not in ALLOWED]
    assert {name for name, _ in found} == set(ALLOWED)


def test_a_read_without_a_limit_is_found() -> None:
    for text in (
        "store.read(path)", "context.store.read_if_there(path)", "pool.map(store.read, paths)", "file.read()",
        "fs.cat_file(path)", "path.read_bytes()", "archive.read(name)[0]",
    ):  # fmt: skip
        tree = ast.parse(text)
        called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        methods = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        expected = text != "archive.read(name)[0]"
        assert any(is_unlimited(method, called.get(id(method))) for method in methods) == expected
