"""Every byte that a run keeps goes through `Store.publish`: whole or not at all."""

from __future__ import annotations

import ast

from tests.architecture.source_tree import calls, place, python_files

# File -> why it writes by itself.
WRITERS = {
    "edc_ray/artifacts/storage/local_files.py": "publish itself, on a local disk",
    "edc_ray/artifacts/storage/store.py": "publish itself, elsewhere",
    "edc_ray/artifacts/tables/codec.py": "zip members in memory",
    "edc_ray/models/weight_files.py": "a cache on this node's disk, renamed into place",
}
WRITING_METHODS = {"pipe", "pipe_file", "put_file", "touch", "write_bytes", "write_text", "cp_file", "upload"}


def writes(name: str, call: ast.Call) -> bool:
    """Whether a call opens a file for writing, or writes one."""
    method = name.rpartition(".")[2]
    if method != "open":
        return method in WRITING_METHODS
    modes = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    # A mode that is no constant may be any.
    return any(not isinstance(mode, ast.Constant) or set(str(mode.value)) & set("wax+") for mode in modes)


def test_nothing_but_the_store_writes_files() -> None:
    found = {
        str(path): place(path, call)
        for path in python_files("edc_ray")
        for name, call in calls(path)
        if writes(name, call)
    }
    assert sorted(found) == sorted(WRITERS), found


def test_a_writing_call_is_recognised() -> None:
    source = (
        "fsspec.open(url, 'wb'); fs.open(p, mode='ab'); p.write_bytes(b''); open(x, how); fs.pipe_file(p, d)"
    )
    harmless = "open(x); fs.open(path, 'rb'); Image.open(io.BytesIO(data)); tensor.copy_(x); queue.put(x)"
    for text, expected in ((source, True), (harmless, False)):
        found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        named = [(ast.unparse(call.func), call) for call in found]
        assert {writes(name, call) for name, call in named if name != "io.BytesIO"} == {expected}
