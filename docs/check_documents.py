"""Checks what a program can check in the Markdown files. Status 1 and a line for each mistake.

- Every relative link leads to a file, and to a heading in it. Links to the web are not followed.
- The command line understands every `edc-ray` command, and the config its recipe and overrides.
- Every `section.field` is a field, and every `section.field=value` gives it a valid value.
- Every `make` target exists.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import typer.main

from edc_ray.cli import app
from edc_ray.config.load import field_paths, load_recipe
from edc_ray.config.run import RunConfig
from edc_ray.errors import ConfigError

ROOT = Path(__file__).parents[1]
SKIPPED = {".venv", ".uv", "node_modules", "runs", "scratch", ".git", ".pytest_cache"}
_ANY_RECIPE = "cifar10"  # on which a field's value is tried

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`|^ {4,}(\S.*)$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]{2,}\b|\.\.\.|\[")


def documents() -> list[Path]:
    """The repository's Markdown files."""
    return sorted(path for path in ROOT.rglob("*.md") if not SKIPPED & set(path.relative_to(ROOT).parts))


def mistakes_in(path: Path) -> Iterator[str]:
    """A sentence for each mistake of a document."""
    # A command that continues on the next line is one command.
    text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        target, _, heading = link.partition("#")
        file = path.parent / target if target else path
        if "://" not in link and not (file.exists() and (not heading or heading in _headings(file))):
            yield f"the link {link} leads nowhere"
    for code in (inline or block for inline, block in _CODE.findall(text)):
        command = code.partition("  #")[0].removeprefix("$ ").strip()
        if command.startswith("edc-ray "):
            yield from _mistakes_of_command(command)
        elif command.startswith("make "):
            yield from _mistakes_of_make(command)
        else:
            yield from _mistakes_of_field(command)


def _headings(path: Path) -> set[str]:
    """What links call the headings of a document."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _mistakes_of_command(command: str) -> Iterator[str]:
    _, name, *words = shlex.split(command.partition(" > ")[0])
    program = typer.main.get_command(app)
    if any(name in option.opts for option in program.params):
        return
    commands = getattr(program, "commands", {})
    if name not in commands:
        yield f"`{command}`: there is no such command"
        return
    if not words:  # the command's name in a sentence
        return
    try:
        parsed = commands[name].make_context(name, list(words)).params
    except Exception as error:  # click's, of which typer may carry its own copy
        yield f"`{command}`: {error}"
        return
    given = parsed.get("words") or []
    if given and "=" not in given[0] and not any(_PLACEHOLDER.search(word) for word in given[:1]):
        try:
            load_recipe(given[0], [word for word in given[1:] if "=" in word])
        except ConfigError as error:
            yield f"`{command}`: {error}"


def _mistakes_of_make(command: str) -> Iterator[str]:
    targets = set(
        re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    target = command.split()[1]
    if target not in targets:
        yield f"`{command}`: the Makefile has no target {target}"


def _mistakes_of_field(code: str) -> Iterator[str]:
    found = re.fullmatch(r"([a-z]+)\.([a-z0-9_]+)(=\S+)?", code)
    # `run.yaml` and the like are files.
    if not found or found[1] not in RunConfig.model_fields or found[2] in ("yaml", "py"):
        return
    if f"{found[1]}.{found[2]}" not in field_paths():
        yield f"`{code}`: there is no such field"
    elif found[3] and not _PLACEHOLDER.search(code):
        try:
            load_recipe(_ANY_RECIPE, [code])
        except ConfigError as error:
            # A value may be valid only beside other fields, which the code does not state.
            if f"'{found[1]}.{found[2]}" in error.summary:
                yield f"`{code}`: {error}"


def main() -> None:
    """Check all documents."""
    mistakes = [f"{path.relative_to(ROOT)}: {text}" for path in documents() for text in mistakes_in(path)]
    print("\n".join(mistakes) or f"{len(documents())} documents: links, commands and fields are sound")
    sys.exit(bool(mistakes))


if __name__ == "__main__":
    main()
