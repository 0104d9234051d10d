"""Every folder says what lives in it and what it may import, and keeps to it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.architecture.rooms import (
    FILES,
    allowed_places,
    exists,
    folders,
    imports_of_ours,
    lies_in,
    places_named,
    room_of,
)
from tests.architecture.source_tree import imported_modules, python_files

MAX_FILES = 15
SOURCES = python_files("edc_ray")


@pytest.mark.parametrize("folder", folders())
def test_a_folder_says_what_lives_in_it_and_names_only_places_that_exist(folder: str) -> None:
    docstring = folders()[folder]
    assert docstring is not None
    assert docstring.partition("May import")[0].strip()
    assert [place for place in places_named(docstring) if not exists(place)] == []


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_file_imports_only_what_its_folder_may(path: Path) -> None:
    places = allowed_places(room_of(path))
    refused = {
        module for module in imports_of_ours(path) if not any(lies_in(module, place) for place in places)
    }
    assert not refused, f"{path} may import {sorted(places)}"


def test_nothing_is_allowed_that_nobody_needs() -> None:
    unused = {}
    for room in (*folders(), *FILES):
        own = FILES[room].split() if room in FILES else places_named(folders()[room] or "")
        files = [path for path in SOURCES if lies_in(room_of(path), room)]
        imported = {module for path in files for module in imports_of_ours(path)}
        if idle := [place for place in own if not any(lies_in(module, place) for module in imported)]:
            unused[room] = idle
    assert not unused


def imports_by_file() -> dict[str, set[str]]:
    """Which modules of the package each of them imports, under TYPE_CHECKING and in functions too."""
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCES}
    found = {}
    for name, path in names.items():
        found[name] = (imported_modules(path) & set(names)) - {name}
    return found


def circles(graph: dict[str, set[str]]) -> set[str]:
    """The modules that are left when those that import none of the left are taken away, again and again."""
    left = dict(graph)
    while ends := [name for name, imports in left.items() if not imports & set(left)]:
        for name in ends:
            del left[name]
    return set(left)


def test_no_files_import_each_other_in_a_circle() -> None:
    assert not circles(imports_by_file())


def test_a_circle_is_found_and_what_merely_imports_is_no_part_of_an_open_chain() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}) == {"a", "b", "c"}
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == set()


def test_no_folder_has_too_many_files() -> None:
    sizes = Counter(str(path.parent) for path in SOURCES if path.name != "__init__.py")
    assert {folder: size for folder, size in sizes.items() if size > MAX_FILES} == {}
