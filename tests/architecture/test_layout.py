"""Where files are, what they are called, how long they are."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.architecture.source_tree import ROOT, parsed, python_files

MAX_LINES, MAX_JOB_LINES, MAX_FUNCTION_LINES, MAX_ACTOR_METHOD_LINES = 400, 45, 60, 10
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "shared", "base", "core"}

# Source file -> why it has no test file.
NOT_MIRRORED = {
    "edc_ray/__main__.py": "test_cli.py runs it",
    "edc_ray/cluster/actors.py": "needs a queue to feed it: test_work_queue.py runs both on a real Ray",
    "edc_ray/cluster/train_worker.py": "test_driver.py runs it on a real Ray Train",
    "edc_ray/kernels/cuda/adding_up.py": "test_statistics.py runs all kernels of layers",
    "edc_ray/kernels/cuda/gradient_pass.py": "likewise",
    "edc_ray/kernels/cuda/measuring_pass.py": "test_statistics.py runs all kernels of layers",
    "edc_ray/kernels/cuda/pixels.py": "test_statistics.py runs the kernels of pixels, too",
    "edc_ray/kernels/cuda/plain_form.py": "what test_operations.py traces on a CPU",
    "edc_ray/kernels/cuda/view_pass.py": "test_statistics.py runs the kernels of pixels, too",
}
# Folders of tests that follow a question, not a source file.
FREE_TESTS = ("architecture", "benchmarks", "examples", "goldens", "e2e", "fuzz", "s3")

MIRRORED = [path for path in python_files("edc_ray") if path.name != "__init__.py"]


def test_a_source_file_has_its_test_file() -> None:
    expected = [
        Path("tests", *path.parts[1:-1], f"test_{path.name}")
        for path in MIRRORED
        if str(path) not in NOT_MIRRORED
    ]
    assert [str(path) for path in expected if not (ROOT / path).exists()] == []


def test_a_test_file_names_its_source_file() -> None:
    known = {path.with_suffix("").parts[1:] for path in MIRRORED}
    strays = []
    for path in python_files("tests"):
        _, *folders, name = path.with_suffix("").parts
        if name.startswith("test_") and not (folders and folders[0] in FREE_TESTS):
            # test_store_on_s3.py is a second file about store.py.
            words = name.removeprefix("test_").split("_")
            names = ["_".join(words[:end]) for end in range(1, len(words) + 1)]
            if not any((*folders, one) in known for one in names):
                strays.append(str(path))
    assert not strays, f"no source file for {strays}"


def test_the_exceptions_still_exist() -> None:
    assert {name for name in NOT_MIRRORED if not (ROOT / name).exists()} == set()


def test_no_file_has_a_name_that_says_nothing() -> None:
    files = python_files("edc_ray", "jobs", "benchmarks", "tests")
    assert not [str(path) for path in files if path.stem in NAMELESS]


def test_no_file_is_too_long() -> None:
    limits = dict.fromkeys(python_files("edc_ray", "tests", "benchmarks", "docs"), MAX_LINES)
    limits |= dict.fromkeys(python_files("jobs"), MAX_JOB_LINES)
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in limits}
    too_long = {str(path): lengths[path] for path in limits if lengths[path] > limits[path]}
    assert not too_long


def test_no_function_is_too_long() -> None:
    too_long = {}
    for path in python_files("edc_ray", "jobs"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef) and length_of_body(node) > MAX_FUNCTION_LINES:
                too_long[f"{path}:{node.name}"] = length_of_body(node)
    assert not too_long


def test_a_method_of_an_actor_is_short_enough_to_need_no_test_on_ray() -> None:
    module = parsed(Path("edc_ray/cluster/actors.py"))
    too_long = {}
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef) and node.name.endswith("Actor"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and length_of_body(method) > MAX_ACTOR_METHOD_LINES:
                    too_long[f"{node.name}.{method.name}"] = length_of_body(method)
    assert not too_long


def test_what_a_submitted_job_uploads_leaves_out_environments_and_runs() -> None:
    lines = (ROOT / ".rayignore").read_text(encoding="utf-8").splitlines()
    assert {".venv", ".uv", "runs"} <= {line.strip().strip("/") for line in lines}


def length_of_body(function: ast.FunctionDef) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
