from __future__ import annotations

import re

import pytest

from edc_ray.config.methods.catalogue import METHODS
from edc_ray.sharing.citations import EDC, citations


@pytest.mark.parametrize("method", [*METHODS, None])
def test_edc_is_always_cited_and_every_entry_is_whole(method: str | None) -> None:
    entries = citations(method)
    assert entries[0] == EDC
    for entry in entries:
        assert re.match(r"@\w+\{\w+,\n", entry)
        assert entry.count("{") == entry.count("}")
        assert {"title", "author", "year"} <= set(re.findall(r"^  (\w+) = ", entry, re.MULTILINE))


@pytest.mark.parametrize(
    ("method", "arxiv"),
    [("sre2l", "2306.13092"), ("cda", "2311.18838"), ("gvbsm", "2311.17950"), ("rded", "2312.03526")],
)
def test_a_predecessor_is_cited_too(method: str, arxiv: str) -> None:
    assert [arxiv in entry for entry in citations(method)] == [False, True]
