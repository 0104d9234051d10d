from __future__ import annotations

import io

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edc_ray.data.real.fetched_ranges import FetchedRanges

DATA = bytes(range(200))
SPANS = st.tuples(st.integers(0, 199), st.integers(0, 60)).map(
    lambda span: (span[0], min(span[1], 200 - span[0]))
)


@given(st.lists(SPANS, max_size=5), st.lists(st.tuples(st.integers(0, 210), st.integers(0, 80)), max_size=8))
def test_any_range_reads_as_the_file_does(fetched: list, asked: list) -> None:
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/ranges/a", DATA)
    file, plain = FetchedRanges(filesystem, "/ranges/a", len(DATA), fetched), io.BytesIO(DATA)
    for place, size in asked:
        assert file.seek(place) == plain.seek(place)
        assert file.read(size) == plain.read(size)
        assert file.tell() == plain.tell()
    assert file.seek(-7, io.SEEK_END) == 193
    assert file.seek(2, io.SEEK_CUR) == 195
    assert file.read() == DATA[195:]


def test_what_was_fetched_is_not_asked_for_again(tmp_path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    file = FetchedRanges(fsspec.filesystem("file"), str(tmp_path / "a"), len(DATA), [(100, 50), (10, 20)])
    assert file.read_at(60, 9) == DATA[60:69]
    (tmp_path / "a").unlink()
    for offset, size in ((10, 20), (15, 3), (100, 50), (149, 1), (60, 9)):
        assert file.read_at(offset, size) == DATA[offset : offset + size]


def test_a_server_that_knows_no_ranges_is_refused() -> None:
    filesystem = fsspec.filesystem("memory", skip_instance_cache=True)
    filesystem.async_impl = True
    filesystem.cat_file = lambda *_, **__: DATA
    with pytest.raises(OSError, match="gives 200 bytes where 9 are asked for"):
        FetchedRanges(filesystem, "/a", len(DATA), [(0, 9)])
    with pytest.raises(OSError, match="gives 200 bytes where 8 are asked for"):
        FetchedRanges(filesystem, "/a", len(DATA)).read_at(5, 8)
