"""What each folder may import, as the docstring of its `__init__` says: "May import core and data.real."."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.architecture.source_tree import ROOT, imported_modules, parsed, python_files

PACKAGE = "edc_ray"
_SENTENCE = re.compile(r"\bMay import (.*?)\.(?:\s|$)", re.DOTALL)
_PLACE = re.compile(r"[a-z_]+(?:\.[a-z_]+)*")
_NO_PLACES = {"and", "nothing", "more"}

# Files beside the folders -> what they may import.
FILES = {
    "version": "",
    "errors": "",
    "digests": "",
    "own_code": "errors",
    "launch": "errors config artifacts stages runs cluster report",
    "cli": "errors version config artifacts report runs sharing face",
    "__main__": "cli",
    # `import edc_ray`: names of the face and of what it hands out, each imported on first use.
    "__init__": "errors version config data report sharing face",
}


@cache
def folders() -> dict[str, str | None]:
    """Each folder below the package, "core.layers", and its docstring."""
    found = {}
    for path in python_files(PACKAGE):
        if path.name == "__init__.py" and len(path.parts) > 2:
            found[".".join(path.parts[1:-1])] = ast.get_docstring(parsed(path))
    return found


def places_named(docstring: str) -> list[str]:
    """The places after "May import"."""
    sentence = _SENTENCE.search(docstring)
    assert sentence is not None, f"no sentence 'May import ...' in: {docstring}"
    return [word for word in _PLACE.findall(sentence[1]) if word not in _NO_PLACES]


def exists(place: str) -> bool:
    path = ROOT / PACKAGE / Path(*place.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def room_of(path: Path) -> str:
    """ "core.layers" for edc_ray/core/layers/taps.py, "cli" for edc_ray/cli.py."""
    return ".".join(path.parts[1:-1]) or path.stem


def allowed_places(room: str) -> set[str]:
    """What a room may import: itself, what lies in it, and what it or a folder around it names."""
    if room in FILES:
        return set(FILES[room].split())
    parts = room.split(".")
    around = [".".join(parts[: end + 1]) for end in range(len(parts))]
    return {room, *(place for one in around for place in places_named(folders()[one] or ""))}


def imports_of_ours(path: Path) -> set[str]:
    """Modules of the package that a file imports, without its name: "core.layers.taps"."""
    modules = {module for module in imported_modules(path) if module.partition(".")[0] == PACKAGE}
    return {module.partition(".")[2] for module in modules} - {""}


def lies_in(module: str, place: str) -> bool:
    return f"{module}.".startswith(f"{place}.")
