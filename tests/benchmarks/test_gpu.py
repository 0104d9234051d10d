"""All benchmarks of a GPU in turn: what is called, what is left out, what is refused."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import gpu
import pytest
import torch

HERE = Path(gpu.__file__).parent


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Commands that were called on a machine with a GPU; each keeps a record of the present code."""
    calls: list[list[str]] = []
    monkeypatch.setattr(gpu, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu, "changed_files", list)
    monkeypatch.setattr(gpu, "is_of_this_code", lambda commit: commit == "now")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")

    def run(command: list[str], **more: Any) -> argparse.Namespace:
        calls.append(command)
        fails = "bench_statistics.py" in command[1]
        if not fails:
            _record(tmp_path / f"{command[command.index('--record') + 1]}.json", "now")
        return argparse.Namespace(returncode=int(fails))

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def _record(path: Path, commit: str) -> None:
    result = {"images_per_s": 5.0, "loader_share": 0.01, "loader_added_share": 0.0}
    path.write_text(json.dumps({"dirty": [], "environment": {"commit": commit}, "result": result}))


def test_where_there_is_no_cuda_device_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device"):
        gpu.main([])


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "PACKAGES", ("torch", "no_such_package"))
    with pytest.raises(SystemExit, match="has no no_such_package"):
        gpu.main([])


def test_what_is_recorded_of_this_code_is_not_run_again(called: list[list[str]], tmp_path: Path) -> None:
    assert gpu.main(["--only", "relabel", "student_step"]) == 0
    assert [Path(command[1]).name for command in called] == ["bench_relabel.py", "bench_student_step.py"]
    assert all(re.search(r"_h200_\d{6}$", command[command.index("--record") + 1]) for command in called)
    assert gpu.main(["--only", "relabel", "student_step"]) == 0
    assert len(called) == 2
    _record(next(tmp_path.glob("relabel_h200_*.json")), "before")
    gpu.main(["--only", "relabel", "student_step"])
    assert len(called) == 3


def test_one_that_fails_does_not_stop_the_others(
    called: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main(["--only", "statistics", "relabel"]) == 1
    assert len(called) == 2
    told = capsys.readouterr()
    assert "| images a second | relabel | 5 |" in told.out
    assert "failed, or out of time: statistics" in told.err


def test_after_its_minutes_nothing_more_begins_and_what_runs_ends(
    called: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main(["--minutes", "0", "--only", "relabel"]) == 1
    assert not called

    def slow(command: list[str], *, timeout: float, **more: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", slow)
    assert gpu.main(["--minutes", "1", "--only", "relabel"]) == 1
    assert "out of time, 0 s" in capsys.readouterr().out


def test_what_is_known_is_printed_when_a_benchmark_ends(
    called: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main(["--only", "relabel", "student_step"]) == 0
    early, _, late = capsys.readouterr().out.partition("bench_student_step.py")
    assert "| images a second | relabel | 5 |" in early
    assert "| images a second | relabel | 5 |" in late


def test_a_recipe_that_ran_out_of_time_shows_its_stages_and_is_run_again(
    called: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = {"complete": False, "stages": {"squeeze": {"seconds": 12.0}}, "total_s": 12.0}

    def ends(command: list[str], **more: Any) -> None:
        name = command[command.index("--record") + 1]
        kept = {"dirty": [], "environment": {"commit": "now"}, "result": result}
        (tmp_path / f"{name}.json").write_text(json.dumps(kept))
        called.append(command)
        raise subprocess.TimeoutExpired(command, 1.0)

    monkeypatch.setattr(subprocess, "run", ends)
    for _ in range(2):
        assert gpu.main(["--only", "recipe", "--set", "dataset.train=a", "dataset.val=b"]) == 1
    assert len(called) == 2
    assert called[0][-3:] == ["--set", "dataset.train=a", "dataset.val=b"]
    assert "| s of all stages, CIFAR-10, not finished | recipe | 12.0 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("device", "name"), [("NVIDIA H200", "h200"), ("NVIDIA GeForce RTX 4090", "rtx4090"), ("", "gpu")]
)
def test_names_of_records_have_the_gpu_in_one_word(device: str, name: str) -> None:
    assert gpu.gpu_name(device) == name


@pytest.mark.parametrize("theme", gpu.PLAN)
def test_a_benchmark_has_the_options_with_which_it_is_called(theme: str) -> None:
    script, *words = gpu.PLAN[theme].split()
    texts = "".join((HERE / name).read_text() for name in (script, "harness.py", "epochs.py"))
    for word in words:
        assert not word.startswith("--") or f'"{word}"' in texts, word
