"""The table of results (mean, sample standard deviation and n of each row) and the table of `edc-ray gc`."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edc_ray.artifacts.proof.garbage import Findings, Garbage

ROWS = ("condensed", "init", "random", "random_hard", "full")
_HEADINGS = ("row", "ipc", "student", "n", "top-1 (%)", "top-5 (%)")
_NUMERIC = {"ipc", "n", "top-1 (%)", "top-5 (%)", "ECE"}
_WRAPPED = {"note", "trial"}
_WIDEST = 1000  # characters of a table as text
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


@dataclass(frozen=True)
class ResultRow:
    """One line of the table.

    Args:
        row: one of `ROWS`.
        ipc: images per class; None for `full`.
        student: name of the network.
        n: number of trained students; 0 for a cited figure.
        top1_mean: percent.
        top1_std: sample standard deviation (divisor n - 1) in percent; None for n < 2.
        top5_mean: percent; None if not measured.
        note: such as the source of a cited figure.
        ece_mean: expected calibration error in [0, 1]; None if not measured.
    """

    row: str
    ipc: int | None
    student: str
    n: int
    top1_mean: float
    top1_std: float | None
    top5_mean: float | None
    note: str = ""
    ece_mean: float | None = None


def aggregate(results: Iterable[Mapping[str, Any]]) -> list[ResultRow]:
    """Lines of the table: by student in order of appearance, then by row in the order of ROWS, then by ipc.

    Args:
        results: one mapping per trained student: row, ipc, student, seed, top1 (percent) and, if known,
            top5 (percent), ece and note.

    Raises:
        ValueError: an unknown row, or a student with the same seed twice.
    """
    groups: dict[tuple[str, str, int | None], list[Mapping[str, Any]]] = {}
    for result in results:
        if result["row"] not in ROWS:
            raise ValueError(f"unknown row {result['row']!r}")
        groups.setdefault((result["student"], result["row"], result["ipc"]), []).append(result)
    students = list(dict.fromkeys(student for student, _, _ in groups))
    rows = []
    for key in sorted(groups, key=lambda key: (students.index(key[0]), ROWS.index(key[1]), key[2] or 0)):
        (student, row, ipc), group = key, groups[key]
        seeds = [result.get("seed") for result in group]
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{row}, {student}, ipc {ipc}: a seed occurs twice in {seeds}")
        top1 = [float(result["top1"]) for result in group]
        spread = stdev(top1) if len(top1) > 1 else None
        top5, ece = _mean_of_all(group, "top5"), _mean_of_all(group, "ece")
        note = "; ".join(dict.fromkeys(note for result in group if (note := result.get("note"))))
        line = ResultRow(
            row=row, ipc=ipc, student=student, n=len(group), top1_mean=fmean(top1), top1_std=spread,
            top5_mean=top5, note=note, ece_mean=ece,
        )  # fmt: skip
        rows.append(line)
    return rows


@dataclass(frozen=True)
class ShownTable:
    """A table of text, for a terminal, a notebook or a document. An empty title is not shown."""

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]

    def __rich__(self) -> Table:
        table = Table(title=self.title or None)
        for heading in self.headings:
            justify = "right" if heading in _NUMERIC else "left"
            table.add_column(heading, justify=justify, no_wrap=heading not in _WRAPPED)
        for line in self.lines:
            table.add_row(*map(Text, line))
        return table

    def to_text(self, encoding: str = "utf-8") -> str:
        """The table as text of any width, in letters that an encoding has."""
        # Rich chooses its lines by the encoding of the file.
        file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        console = Console(file=file, width=_WIDEST, color_system=None, force_terminal=False)
        with console.capture() as captured:
            console.print(self._in_letters_of(encoding))
        return "\n".join(line.rstrip() for line in captured.get().splitlines())

    def _in_letters_of(self, encoding: str) -> ShownTable:
        def held(text: str) -> str:
            try:
                text.encode(encoding)
            except UnicodeEncodeError:
                return text.replace("±", "+/-").encode(encoding, "replace").decode(encoding)
            return text

        lines = [[held(cell) for cell in line] for line in self.lines]
        return ShownTable(held(self.title), [held(heading) for heading in self.headings], lines)

    def __repr__(self) -> str:
        return self.to_text()

    def to_html(self) -> str:
        """The table in HTML, with every text escaped."""

        def row(tag: str, cells: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(row("td", line) for line in self.lines)
        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        return f"<table>{caption}<thead>{row('th', self.headings)}</thead><tbody>{body}</tbody></table>"

    _repr_html_ = to_html

    def to_markdown(self) -> str:
        """The table without its title in Markdown, ending with a newline."""
        lines = [self.headings, ["---"] * len(self.headings), *self.lines]
        escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
        return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def results_table(rows: Sequence[ResultRow], title: str = "") -> ShownTable:
    """The table of results."""
    measured = ["ECE"] if any(row.ece_mean is not None for row in rows) else []
    headings = [*_HEADINGS, *measured, *(["note"] if any(row.note for row in rows) else [])]
    return ShownTable(title, headings, [_cells(row, headings) for row in rows])


def _mean_of_all(group: list[Mapping[str, Any]], name: str) -> float | None:
    """Mean of a figure; None unless every student of the group has it."""
    values = [float(result[name]) for result in group if result.get(name) is not None]
    return fmean(values) if len(values) == len(group) else None


def _cells(row: ResultRow, headings: Sequence[str]) -> list[str]:
    spread = "" if row.n == 0 else f" ± {'-' if row.top1_std is None else format(row.top1_std, '.2f')}"
    cells = {
        "row": row.row,
        "ipc": "-" if row.ipc is None else str(row.ipc),
        "student": row.student,
        "n": str(row.n) if row.n else "cited",
        "top-1 (%)": f"{row.top1_mean:.2f}{spread}",
        "top-5 (%)": "-" if row.top5_mean is None else f"{row.top5_mean:.2f}",
        "ECE": "-" if row.ece_mean is None else f"{row.ece_mean:.3f}",
        "note": row.note,
    }
    return [cells[heading] for heading in headings]


def print_table(table: ShownTable) -> None:
    """With styles on a terminal that is wide enough; else as text, in letters that the output can hold."""
    console, text = Console(), table.to_text(sys.stdout.encoding)
    if sys.stdout.isatty() and not text.isascii() and max(map(len, text.splitlines())) <= console.width:
        console.print(table)
    else:
        print(text)


def print_garbage(url: str, found: Findings, gone: Sequence[Garbage], *, dry_run: bool) -> None:
    """Print what was removed or would be, what was kept, and why."""
    if gone:
        lines = [(one.kind, _age(one.age), one.path) for one in gone]
        print_table(ShownTable("", ("kind", "age", "path"), lines))
    verb = "would remove" if dry_run else "removed"
    told = [f"{url}: {verb} {_number(len(gone), 'leftover')}" if gone else f"{url}: nothing to remove"]
    if found.young:
        told.append(f"kept {_number(found.young, 'file')} that a writer may still work on; see --older-than")
    told += [f"{folder}: left alone, {reason}" for folder, reason in found.left_alone.items()]
    if not found.lists_uploads:
        told.append("pending uploads: this storage cannot list any")
    print("\n".join(told))


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
