"""gc as a user types it, on a run of local files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.e2e.command_line import CommandLine
from tests.e2e.stored import stored_hashes


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.setenv("COLUMNS", "120")
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A finished run in which a writer was killed two hours ago, and another has just begun."""
    shutil.copytree(tiny_run, tmp_path / "digits")
    labels = tmp_path / "digits" / "labels"
    for name in ("killed.parquet", ".e.parquet.0123.tmp~"):
        (labels / name).write_bytes(b"half")
        two_hours_ago = labels.stat().st_mtime - 7200
        os.utime(labels / name, (two_hours_ago, two_hours_ago))
    (labels / "living.parquet").write_bytes(b"half")
    return tmp_path / "digits"


def test_gc_removes_what_is_old_and_named_by_nothing(ask: CommandLine, run: Path, tiny_run: Path) -> None:
    would = ask("gc", str(run), "--dry-run")
    assert "│ orphan         │ 2h  │ labels/killed.parquet       │" in would.out
    assert "would remove 2 leftovers\nkept 1 file that a writer may still work on" in would.out
    told = ask("gc", str(run), "--json")
    assert (told.status, told.err) == (0, "")
    found = json.loads(told.out)
    assert {one["path"] for one in found["removed"]} == {
        "labels/.e.parquet.0123.tmp~",
        "labels/killed.parquet",
    }
    assert (found["dry_run"], found["young"], found["left_alone"]) == (False, 1, {})
    assert sorted(path.name for path in (run / "labels").iterdir() if path.is_file()) == sorted(
        ["living.parquet", *(path.name for path in (tiny_run / "labels").iterdir() if path.is_file())]
    )
    assert stored_hashes(run) == stored_hashes(tiny_run)
    assert "nothing to remove\nkept 1 file" in ask("gc", str(run)).out


def test_a_finished_run_has_no_garbage(ask: CommandLine, tiny_run: Path) -> None:
    told = ask("gc", str(tiny_run), "--older-than", "0s")
    assert told.out.startswith(
        f"{tiny_run}: nothing to remove\npending uploads: this storage cannot list any"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["/nowhere/run"], "there is no run at /nowhere/run"),
        (["{run}", "--older-than", "1 week"], "'1 week' is no age"),
    ],
)
def test_a_mistake_ends_with_status_2(
    ask: CommandLine, tiny_run: Path, words: list[str], message: str
) -> None:
    told = ask("gc", *(word.format(run=tiny_run) for word in words))
    assert (told.status, told.out) == (2, "")
    assert message in told.err
