from __future__ import annotations

import json

import pytest

from edc_ray.artifacts.proof.garbage import Findings, Garbage
from edc_ray.report.table import garbage_json, print_garbage

ORPHAN = Garbage("orphan", "labels/[red]e1.parquet", 7300.0)
FOUND = Findings((ORPHAN,), 2, {"init": "init/manifest.json cannot be read"}, False)


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_table_says_what_went_what_stayed_and_why(
    dry_run: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    print_garbage("s3://b/run", FOUND, [ORPHAN], dry_run=dry_run)
    told = capsys.readouterr().out
    assert "│ orphan │ 2h  │ labels/[red]e1.parquet │" in told
    assert f"s3://b/run: {'would remove' if dry_run else 'removed'} 1 leftover\n" in told
    assert "kept 2 files that a writer may still work on; see --older-than\n" in told
    assert "init: left alone, init/manifest.json cannot be read\n" in told
    assert "no" in told.splitlines()[-1]


def test_nothing_is_said_of_what_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    print_garbage("runs/a", Findings((), 0, {}, True), [], dry_run=False)
    assert capsys.readouterr().out == "runs/a: nothing to remove\n"


def test_json_is_one_line() -> None:
    line = garbage_json("s3://b/run", FOUND, [], dry_run=True)
    assert json.loads(line) == {
        "run": "s3://b/run", "dry_run": True, "removed": [], "young": 2, "lists_uploads": False,
        "left_alone": {"init": "init/manifest.json cannot be read"},
    }  # fmt: skip
