"""What the benchmarks keep of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import records
from records import Record, command_line, is_of_this_code

changed_files = records.changed_files


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(records, "changed_files", list)
    monkeypatch.setattr(records, "RESULTS", tmp_path)


def _begun(name: str = "a_cpu2_202611", *, allow_dirty: bool = False) -> Record:
    return Record.begun(name, "A title.", {"commit": "0123456"}, "A note.", allow_dirty=allow_dirty)


def test_code_that_no_commit_has_is_recorded_only_where_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records, "changed_files", lambda: ["edc_ray/cli.py"])
    with pytest.raises(ValueError, match=r"uncommitted changes in edc_ray/cli\.py"):
        _begun()
    assert "0123456, and changes to edc_ray/cli.py" in _begun(allow_dirty=True).page()


@pytest.mark.parametrize("name", ["../a", "A_b", "", "a__b", "a.json"])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        _begun(name)


def test_both_files_hold_what_was_printed() -> None:
    record = _begun()
    record.raw_seconds.append({"ours": [1.0, 2.0]})
    record.add_table([["", "s"], ["ours", "1.000"]])
    as_json, as_page = record.write({"ours_s": 1.0})
    kept = json.loads(as_json.read_text())
    assert kept["result"] == {"ours_s": 1.0}
    assert kept["raw_seconds"] == [{"ours": [1.0, 2.0]}]
    assert "|  | s |\n| --- | ---: |\n| ours | 1.000 |" in as_page.read_text()


def test_a_table_that_grows_from_print_to_print_is_kept_once() -> None:
    record = _begun()
    for rows in (["a"], ["a", "b"]):
        record.add_table([["x"], *([row] for row in rows)])
    record.add_table([["y"], ["a"]])
    assert record.page().count("| x |") == 1
    assert "| b |" in record.page()
    assert "| y |" in record.page()


def test_a_command_is_kept_without_its_note_and_without_folders_of_the_machine() -> None:
    words = ["/home/me/bench_x.py", "--set", "dataset.train=/data/a/train.parquet", "--note", "a b", "--json"]
    assert command_line(words) == "python benchmarks/bench_x.py --set dataset.train=train.parquet --json"
    assert command_line(["x.py", "--url", "s3://bucket/a"]).endswith("--url s3://bucket/a")


def _no_repository(*words: str) -> str:
    raise OSError("no git")


def test_a_copy_without_a_repository_is_of_the_commit_that_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records, "_git", _no_repository)
    monkeypatch.delenv("EDC_RAY_COMMIT", raising=False)
    assert changed_files() == ["the code is in no repository, and EDC_RAY_COMMIT names no commit"]
    assert not is_of_this_code("0123456789ab")
    monkeypatch.setenv("EDC_RAY_COMMIT", "0123456789ab")
    assert changed_files() == []
    assert is_of_this_code("0123456789ab")
    assert not is_of_this_code("ba9876543210")
    monkeypatch.setenv("EDC_RAY_COMMIT", "0123456789ab+dirty")
    assert changed_files()


def test_a_record_is_of_this_code_where_git_finds_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.delenv("EDC_RAY_COMMIT", raising=False)
    monkeypatch.setattr(records, "_git", lambda *words: asked.append(words) or "")
    assert is_of_this_code("0123456")
    assert asked[0][:4] == ("diff", "--quiet", "0123456", "HEAD")
    assert asked[0][-1] == ":!benchmarks/results"
    assert not is_of_this_code("0123456+dirty")
