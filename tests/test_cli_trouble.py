"""What the command line says when something other than its input fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edc_ray.artifacts.storage.store import Store
from edc_ray.errors import ArtifactError
from tests.e2e.command_line import CommandLine
from tests.test_cli import tiny


def test_on_a_full_disk_the_failed_unit_is_told_and_not_the_log(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_run, tmp_path / "digits")
    shutil.rmtree(tmp_path / "digits" / "init")
    publish, is_full = Store.publish, [False]

    def full(store: Store, path: str, *args: Any, **fields: Any) -> bool:
        is_full[0] |= path.startswith("init/")
        if is_full[0]:
            raise ArtifactError(f"cannot write {path}", found="No space left on device")
        return publish(store, path, *args, **fields)

    monkeypatch.setattr(Store, "publish", full)
    answer = CommandLine(monkeypatch, capsys)("run", *tiny(tmp_path))
    assert answer.status == 3
    assert "UnitsFailedError: init: 1 of 1 unit failed" in answer.err
    assert "No space left on device" in answer.err


def test_what_is_logged_is_told_once_and_without_names_of_modules() -> None:
    code = """
import logging, sys
from edc_ray import cli
sys.argv = ["edc-ray", "recipes"]
try:
    cli.main()
finally:
    logging.getLogger("edc_ray.data").info("2 classes are left out")
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert told.split() == ["INFO", "2", "classes", "are", "left", "out"]


def test_a_sweep_prints_all_trials_and_ends_with_status_3_where_some_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", *tiny(tmp_path, "evaluate.rows=[condensed]", "evaluate.seeds=1")]
    words.append("sweep.space.recover.matching_weight=[0.01,1e300]")
    monkeypatch.setenv("COLUMNS", "120")
    answer = CommandLine(monkeypatch, capsys)(*words, "--json")
    assert answer.status == 3
    assert "UnitsFailedError: sweep: 1 of 2 trials failed" in answer.err
    assert "NumericalError" in answer.err
    good, bad = answer.summary["trials"]
    assert (good["fields"], good["reused"], good["n"]) == ({"recover.matching_weight": 0.01}, False, 1)
    assert "top1_mean" not in bad
    again = CommandLine(monkeypatch, capsys)(*words)
    assert again.status == 3
    assert f"{good['top1_mean']:.2f} ± -" in again.out
    assert "failed" in again.out
