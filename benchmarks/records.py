"""Keeps what a benchmark printed: its object as JSON, its tables as Markdown, with what made them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_CODE = ("edc_ray", "benchmarks")
_COMMIT = "EDC_RAY_COMMIT"


@dataclass
class Record:
    """What is kept of one run of a benchmark.

    Args:
        name: <theme>_<hardware>_<yyyymm>.
        title: of the page.
        environment: versions, hardware, commit.
        note: what a reader must know of how it was measured.
        command: as it was called, without the machine's folders.
        dirty: files that differ from the commit.
        raw_seconds: of each interleaved measurement, variant -> seconds of its turns.
    """

    name: str
    title: str
    environment: dict[str, Any]
    note: str
    command: str
    dirty: list[str]
    raw_seconds: list[dict[str, list[float]]] = field(default_factory=list)
    _parts: list[str | list[list[str]]] = field(default_factory=list)

    @classmethod
    def begun(
        cls, name: str, title: str, environment: dict[str, Any], note: str, *, allow_dirty: bool
    ) -> Record:
        """A record of the code as it is now.

        Raises:
            ValueError: no valid name, or code that differs from its commit.
        """
        if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name):
            raise ValueError(f"--record {name!r} is no name: <theme>_<hardware>_<yyyymm>")
        dirty = changed_files()
        if dirty and not allow_dirty:
            raise ValueError(
                f"--record: uncommitted changes in {', '.join(dirty[:5])}: commit first, or --allow-dirty"
            )
        environment = {**environment, "processor": _processor()}
        return cls(name, title, environment, note, command_line(sys.argv), dirty)

    def add_table(self, texts: Sequence[Sequence[str]]) -> None:
        """Keep a table. A table that grows from print to print replaces its earlier form."""
        table = [list(row) for row in texts]
        for place, part in enumerate(self._parts):
            if isinstance(part, list) and part == table[: len(part)]:
                self._parts[place] = table
                return
        self._parts.append(table)

    def add_text(self, text: str) -> None:
        self._parts.append(text)

    def write(self, result: Mapping[str, Any]) -> list[Path]:
        """Both files."""
        RESULTS.mkdir(exist_ok=True)
        kept = {
            "title": self.title, "command": self.command, "note": self.note, "dirty": self.dirty,
            "environment": self.environment, "result": result, "raw_seconds": self.raw_seconds,
        }  # fmt: skip
        paths = [RESULTS / f"{self.name}{suffix}" for suffix in (".json", ".md")]
        paths[0].write_text(json.dumps(kept, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        paths[1].write_text(self.page(), encoding="utf-8")
        return paths

    def page(self) -> str:
        """The record for people."""
        facts = dict(self.environment)
        if self.dirty:
            facts["commit"] = f"{facts['commit']}, and changes to {', '.join(self.dirty)}"
        parts = [f"# {self.title}", f"    {self.command}", self.note]
        parts += [part if isinstance(part, str) else markdown_table(part) for part in self._parts]
        parts.append("\n".join(f"- {name}: {value}" for name, value in facts.items()))
        return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(texts: Sequence[Sequence[str]]) -> str:
    """Rows of texts, the first of them the header."""
    header, *rows = [f"| {' | '.join(row)} |" for row in texts]
    line = f"|{'|'.join(' --- ' if column == 0 else ' ---: ' for column in range(len(texts[0])))}|"
    return "\n".join([header, line, *rows])


def command_line(words: Sequence[str]) -> str:
    """How a benchmark was called, without the machine's folders."""
    script, *options = words
    if "--note" in options:
        place = options.index("--note")
        del options[place : place + 2]
    options = [re.sub(r"(^|=)~?/\S*/(?=[^/\s])", r"\1", option) for option in options]
    return shlex.join(["python", f"benchmarks/{Path(script).name}", *options])


def changed_files() -> list[str]:
    """Files of the code that differ from the commit; records themselves do not count.

    In a copy without a repository EDC_RAY_COMMIT says the commit, as for a run (stages/units/provenance.py).
    """
    try:
        status = _git("status", "--porcelain", "--untracked-files=all", "--", *_CODE)
    except (OSError, subprocess.SubprocessError):
        given = re.fullmatch(r"[0-9a-f]{7,40}", os.environ.get(_COMMIT, ""))
        return [] if given else [f"the code is in no repository, and {_COMMIT} names no commit"]
    paths = [line[3:] for line in status.splitlines()]
    return [path for path in paths if not path.startswith("benchmarks/results/")]


def is_of_this_code(commit: str) -> bool:
    """Whether a record of a commit is one of the code as it is now, if no file is changed."""
    if re.fullmatch(r"[0-9a-f]{7,40}", commit) is None:
        return False
    given = os.environ.get(_COMMIT, "")
    if given and (given.startswith(commit) or commit.startswith(given)):
        return True
    try:
        _git("diff", "--quiet", commit, "HEAD", "--", *_CODE, ":!benchmarks/results")
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _git(*words: str) -> str:
    root = Path(__file__).parents[1]
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"
