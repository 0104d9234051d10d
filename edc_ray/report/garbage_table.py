"""The output of `edc-ray gc`: a table for people, or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edc_ray.artifacts.proof.garbage import Findings, Garbage

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def print_garbage(url: str, found: Findings, gone: Sequence[Garbage], *, dry_run: bool) -> None:
    """Print what was removed or would be, what was kept, and why."""
    console = Console()
    if gone:
        table = Table()
        for heading in ("kind", "age", "path"):
            table.add_column(heading, overflow="fold")
        for one in gone:
            table.add_row(one.kind, _age(one.age), Text(one.path))
        console.print(table)
    verb = "would remove" if dry_run else "removed"
    lines = [f"{url}: {verb} {_number(len(gone), 'leftover')}" if gone else f"{url}: nothing to remove"]
    if found.young:
        lines.append(f"kept {_number(found.young, 'file')} that a writer may still work on; see --older-than")
    lines += [f"{folder}: left alone, {reason}" for folder, reason in found.left_alone.items()]
    if not found.lists_uploads:
        lines.append("pending uploads: this storage cannot list any")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def garbage_json(url: str, found: Findings, gone: Sequence[Garbage], *, dry_run: bool) -> str:
    """The same as one line of JSON."""
    removed = [{"kind": one.kind, "path": one.path, "age": round(one.age, 1)} for one in gone]
    facts = {key: value for key, value in asdict(found).items() if key != "garbage"}
    return json.dumps({"run": url, "dry_run": dry_run, "removed": removed, **facts}, sort_keys=True)


def _age(seconds: float) -> str:
    unit, length = next(((unit, length) for unit, length in _UNITS if seconds >= length), _UNITS[-1])
    return f"{seconds / length:.0f}{unit}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
