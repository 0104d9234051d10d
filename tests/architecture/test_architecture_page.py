"""ARCHITECTURE.md shows the imports that there are and names places that exist."""

from __future__ import annotations

import re
import runpy

from tests.architecture.source_tree import ROOT

PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
DRAWING = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))
MAX_LINES = 120


def test_the_picture_is_that_of_the_imports() -> None:
    assert DRAWING["picture"]() in PAGE, "run `make diagram`"


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    graph = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert DRAWING["without_detours"](graph) == {"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": set()}


def test_the_page_names_only_places_that_exist_and_stays_short() -> None:
    places = set(re.findall(r"`([a-z_]+/[a-z_/]*(?:\.py)?)`", PAGE))
    assert len(places) > 15
    assert [
        one for one in sorted(places) if not any((top / one).exists() for top in (ROOT, ROOT / "edc_ray"))
    ] == []
    assert len(PAGE.splitlines()) < MAX_LINES
