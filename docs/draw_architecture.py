"""Draws which layer imports which, read from the imports, into ARCHITECTURE.md.

python docs/draw_architecture.py           writes the picture
python docs/draw_architecture.py --check   status 1 where it is not that of the imports
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "edc_ray"
DOCUMENT = ROOT / "ARCHITECTURE.md"
# Anything may import the first three; the others only hand on.
NOT_DRAWN = {"errors", "digests", "own_code", "version", "__init__", "__main__"}
_PICTURE = re.compile(r"```mermaid\n.*?```\n", re.DOTALL)

Graph = dict[str, set[str]]


def layer_of(path: Path) -> str:
    """ "core" for core/layers/taps.py, "cli" for cli.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layers_imported(path: Path) -> set[str]:
    """The layers that a file imports from."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {module.split(".")[1] for module in modules if module.startswith("edc_ray.")}


def imports_of_layers() -> Graph:
    """Each drawn layer and the drawn layers that it imports."""
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if layer_of(path) not in NOT_DRAWN]
    graph: Graph = {layer_of(path): set() for path in files}
    for path in files:
        graph[layer_of(path)] |= layers_imported(path) & set(graph) - {layer_of(path)}
    return graph


def reachable(graph: Graph, layer: str) -> set[str]:
    """All layers below one."""
    return graph[layer].union(*(reachable(graph, below) for below in graph[layer]))


def without_detours(graph: Graph) -> Graph:
    """The imports that do not follow from others: an arrow to the next layer implies those further down."""
    return {
        layer: {
            below
            for below in imported
            if not any(below in reachable(graph, between) for between in imported - {below})
        }
        for layer, imported in graph.items()
    }


def picture() -> str:
    """The Mermaid block: layers with their folders, and an arrow from each to what it builds on."""
    arrows = without_detours(imports_of_layers())
    lines = ["```mermaid", "flowchart TD"]
    for layer in sorted(arrows):
        folders = sorted(path.parent.name for path in PACKAGE.glob(f"{layer}/*/__init__.py"))
        inside = f"<br/><small>{', '.join(folders)}</small>" if folders else ""
        lines.append(f'    {layer}["{layer}{inside}"]')
    lines += [f"    {layer} --> {below}" for layer in sorted(arrows) for below in sorted(arrows[layer])]
    return "\n".join([*lines, "```"]) + "\n"


def main() -> int:
    text = DOCUMENT.read_text(encoding="utf-8")
    drawn = _PICTURE.sub(lambda match: picture(), text, count=1)
    if "--check" in sys.argv[1:]:
        if drawn != text:
            print("ARCHITECTURE.md: the picture is not that of the imports; run `make diagram`")
        return int(drawn != text)
    DOCUMENT.write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
