from __future__ import annotations

import ast
import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edc_ray.artifacts.tables import reader_child
from edc_ray.artifacts.tables.reader_child import HeldRanges

DATA = bytes(range(200))
SPANS = st.tuples(st.integers(0, 199), st.integers(0, 60)).map(
    lambda span: (span[0], min(span[1], 200 - span[0]))
)


@given(st.lists(SPANS, min_size=1, max_size=5), st.data())
def test_what_is_held_reads_as_the_file_does(held: list, data: st.DataObject) -> None:
    parts = [(start, DATA[start : start + number]) for start, number in held]
    file, plain = HeldRanges(len(DATA), parts), io.BytesIO(DATA)
    start, part = data.draw(st.sampled_from(parts))
    size = data.draw(st.integers(0, len(part)))
    assert file.seek(start) == plain.seek(start)
    assert file.read(size) == plain.read(size)
    assert file.tell() == plain.tell()
    assert file.seek(-7, io.SEEK_END) == 193
    assert file.seek(2, io.SEEK_CUR) == 195


def test_what_is_not_held_is_not_read() -> None:
    file = HeldRanges(200, [(0, DATA[:10]), (50, DATA[50:])])
    for place, size in ((5, 6), (20, 1), (10, 1)):
        file.seek(place)
        with pytest.raises(OSError, match=f"{size} bytes from {place} on"):
            file.read(size)
    file.seek(198)
    assert file.read(50) == DATA[198:]


def test_the_program_imports_the_standard_library_and_pyarrow_alone() -> None:
    tree = ast.parse(Path(reader_child.__file__).read_text(encoding="utf-8"))
    names = {one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    others = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert others == {"pyarrow"}
