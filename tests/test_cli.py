from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from edc_ray import cli
from edc_ray.config.run import STAGE_NAMES, StageName
from edc_ray.stages import pipeline
from edc_ray.version import __version__
from tests.conftest import TINY_DIGITS

TINY = [f"{name}={yaml.safe_dump(value, default_flow_style=True)}" for name, value in TINY_DIGITS.items()]
UNITS = {"squeeze": 1, "statistics": 1, "init": 1, "recover": 5, "relabel": 1, "evaluate": 10}


@dataclass(frozen=True)
class Answer:
    status: int
    stdout: str
    stderr: str

    @property
    def last(self) -> dict[str, Any]:
        """The object of --json: the last line of stdout, and here the only one."""
        (line,) = self.stdout.splitlines()
        return json.loads(line)


Ask = Callable[..., Answer]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Ask]:
    """`ask("run", "digits")`: what `edc-ray run digits` answers, without a new process."""
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # main sets it: restored with the test
    monkeypatch.setenv("COLUMNS", "120")
    level = logging.getLogger("edc_ray").level

    def call(*words: str) -> Answer:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["edc-ray", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return Answer(int(ended.value.code or 0), told.out, told.err)

    yield call
    logging.getLogger("edc_ray").setLevel(level)


@pytest.fixture
def run_copy(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished tiny run, in tmp_path."""
    shutil.copytree(tiny_run, tmp_path / "digits")
    return tmp_path / "digits"


def tiny(root: Path, *more: str) -> list[str]:
    return ["digits", *TINY, f"storage.root={root}", *more]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def lose(run: Path, folder: str, *units: str) -> None:
    """Take away the manifest of a stage and the records of some of its units."""
    (run / folder / "manifest.json").unlink()
    for unit in units:
        (run / folder / "records" / f"{unit}.json").unlink()


def break_units(monkeypatch: pytest.MonkeyPatch, stage: StageName, *units: str) -> None:
    """Some units of a stage raise."""
    whole = pipeline.STAGES[stage]

    def run_unit(context: Any, unit: Any) -> Any:
        if unit.key in units:
            raise RuntimeError("the lights went out")
        return whole.run_unit(context, unit)

    monkeypatch.setitem(pipeline.STAGES, stage, replace(whole, run_unit=run_unit))


@pytest.mark.parametrize(
    ("words", "status"),
    [(["show-config", "digit"], 2), (["--version"], 0), (["verify", "{damaged}"], 1)],
)
def test_the_status_of_the_process_is_that_of_the_command(
    words: list[str], status: int, run_copy: Path
) -> None:
    (run_copy / "squeeze" / "convnet_d1.safetensors").write_bytes(b"")
    command = [word.format(damaged=run_copy) for word in words]
    ended = subprocess.run([sys.executable, "-m", "edc_ray", *command], capture_output=True, check=False)
    assert ended.returncode == status
    assert bool(ended.stderr) == (status == 2)


def test_the_version_comes_with_the_commit(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDC_RAY_COMMIT", "0123456789ab")
    assert ask("--version") == Answer(0, f"edc-ray {__version__}, commit 0123456789ab\n", "")


def test_an_error_that_nobody_foresaw_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli.configs, "load_recipe", broken)
    monkeypatch.setattr(sys, "argv", ["edc-ray", "show-config", "digits"])
    with pytest.raises(RuntimeError, match="a bug"):  # the interpreter ends with 1 and a traceback
        cli.main()


# A finished run


def test_status_tells_which_stages_are_complete_and_how_many_units_they_have(
    ask: Ask, run_copy: Path
) -> None:
    lose(run_copy, "condensed", "classes-00000-00001_ipc-00000-00000")
    answer = ask("status", str(run_copy))
    assert answer.status == 0
    told = {line.split()[0]: line.split()[1:] for line in answer.stdout.splitlines()}
    assert list(told) == list(STAGE_NAMES)
    assert told["squeeze"] == ["complete", "1", "unit"]
    assert told["recover"] == ["incomplete", "4", "units"]
    assert told["evaluate"] == ["complete", "10", "units"]
    (run_copy / "init" / "manifest.json").write_text("{")
    answer = ask("status", str(run_copy))
    assert answer.status == 1
    told = {line.split()[0]: line.split()[1:] for line in answer.stdout.splitlines()}
    assert (told["init"], told["evaluate"][0]) == (["damaged", "1", "unit"], "complete")


def test_status_of_a_folder_of_runs_a_sweep_and_a_run_that_has_just_begun(
    ask: Ask, run_copy: Path, tmp_path: Path
) -> None:
    assert "there is no run at" in ask("status", str(tmp_path)).stderr
    (run_copy / "sweep" / "trials").mkdir(parents=True)
    (run_copy / "sweep" / "trials" / "trial-0.json").write_text('{"fields": {"ipc": 2}}')
    assert ask("status", str(run_copy)).stdout.splitlines()[-2:] == [
        "evaluate    complete    10 units", "trial-0 complete    ipc=2",
    ]  # fmt: skip
    assert ask("status", str(run_copy / "sweep")).status == 2
    (tmp_path / "new").mkdir()
    shutil.copy(run_copy / "run.yaml", tmp_path / "new")
    assert ask("status", str(tmp_path / "new")).stdout.split() == [
        word for stage in STAGE_NAMES for word in (stage, "not", "there", "0", "units")
    ]


def test_a_sound_run_is_verified_with_status_0(ask: Ask, tiny_run: Path) -> None:
    answer = ask("verify", str(tiny_run))
    assert answer == Answer(0, f"{tiny_run}: sound\n", "")


def test_a_damaged_run_is_verified_with_status_1_and_the_names_of_its_damaged_files(
    ask: Ask, run_copy: Path
) -> None:
    shard = run_copy / "labels" / "epochs-00000-00001.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    (run_copy / "squeeze" / "convnet_d1.safetensors").unlink()
    (run_copy / "init" / "manifest.json").write_text("{")
    answer = ask("verify", str(run_copy))
    assert answer.status == 1
    lines = answer.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == [
        "init/manifest.json", "labels/epochs-00000-00001.parquet", "squeeze/convnet_d1.safetensors",
    ]  # fmt: skip
    assert lines[3] == f"{run_copy}: 3 damaged or missing files"


def test_report_prints_the_page_and_pictures_that_it_wrote(ask: Ask, run_copy: Path) -> None:
    shutil.rmtree(run_copy / "report")
    answer = ask("report", str(run_copy))
    assert answer.status == 0
    files = [Path(line) for line in answer.stdout.splitlines()]
    assert files[0] == run_copy / "report" / "report.html"
    assert all(file.is_file() for file in files)


# Running


def test_a_second_call_reuses_everything_and_prints_the_object_of_json_alone(
    ask: Ask, run_copy: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run_copy.rglob("*.parquet")}
    answer = ask("run", *tiny(tmp_path), "--json")
    assert answer.status == 0
    found = answer.last
    assert set(found) == {"run", "rows", "stages", "observers", "matching_loss"}
    assert found["run"] == str(run_copy)
    assert {stage: (one["units_done"], one["units_reused"]) for stage, one in found["stages"].items()} == {
        stage: (0, units) for stage, units in UNITS.items()
    }
    assert all(set(one) == {"seconds", "units_done", "units_reused"} for one in found["stages"].values())
    assert {path: path.stat().st_mtime_ns for path in run_copy.rglob("*.parquet")} == before


def test_the_object_of_json_holds_rows_accuracy_of_observers_and_matching_loss(
    ask: Ask, run_copy: Path, tmp_path: Path
) -> None:
    found = ask("run", *tiny(tmp_path), "--json").last
    assert [(row["row"], row["ipc"], row["student"], row["n"]) for row in found["rows"]] == [
        (row, None if row == "full" else 1, "convnet_d1", 2)
        for row in ("condensed", "init", "random", "random_hard", "full")
    ]
    for row in found["rows"]:
        assert set(row) == {"row", "ipc", "student", "n", "top1_mean", "top1_std"}
        assert 0 <= row["top1_mean"] <= 100
        assert row["top1_std"] >= 0
    assert list(found["observers"]) == ["convnet_d1"]
    assert 0 <= found["observers"]["convnet_d1"] <= 100
    assert set(found["matching_loss"]) == {"first", "last"}
    assert found["matching_loss"]["first"] > 0


def test_a_second_call_prints_the_same_table_and_where_the_run_is(
    ask: Ask, run_copy: Path, tmp_path: Path
) -> None:
    answer = ask("run", *tiny(tmp_path))
    assert answer.status == 0
    for row in ("condensed", "init", "random", "random_hard", "full"):
        assert f"│ {row} " in answer.stdout
    assert f"run: {run_copy}\n" in answer.stderr
    assert "recover    complete (5 units)" in answer.stderr
    assert f"{run_copy}/report/report.html\n" in answer.stderr


def test_quiet_shows_no_progress(ask: Ask, run_copy: Path, tmp_path: Path) -> None:
    answer = ask("run", *tiny(tmp_path), "--quiet", "--json")
    assert answer.last["stages"]["recover"]["units_reused"] == 5
    assert "units" not in answer.stderr


def test_a_run_that_lost_a_unit_makes_that_unit_alone_with_the_same_bytes(
    ask: Ask, run_copy: Path, tiny_run: Path, tmp_path: Path
) -> None:
    unit = "classes-00002-00003_ipc-00000-00000"
    lose(run_copy, "condensed", unit)
    (run_copy / "condensed" / f"{unit}.parquet").unlink()
    stages = ask("run", *tiny(tmp_path), "--json").last["stages"]
    assert (stages["recover"]["units_done"], stages["recover"]["units_reused"]) == (1, 4)
    assert [one["units_done"] for stage, one in stages.items() if stage != "recover"] == [0] * 5
    assert files_of(run_copy / "condensed") == files_of(tiny_run / "condensed")


def test_failed_units_end_with_status_3_no_accuracy_and_the_others_done(
    ask: Ask, run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(run_copy / "condensed")
    with monkeypatch.context() as patch:
        break_units(patch, "recover", "classes-00002-00003_ipc-00000-00000")
        answer = ask("run", *tiny(tmp_path), "--json")
    assert answer.status == 3
    found = answer.last
    assert set(found) == {"run", "rows", "stages", "observers", "matching_loss"}
    assert (found["rows"], found["matching_loss"]) == ([], None)
    assert list(found["stages"]) == ["squeeze", "statistics", "init", "recover"]
    assert (found["stages"]["recover"]["units_done"], found["stages"]["recover"]["units_reused"]) == (4, 0)
    assert "UnitsFailedError: recover: 1 of 5 units failed" in answer.stderr
    assert "classes 2-3, ipc 0: RuntimeError: the lights went out" in answer.stderr
    again = ask("run", *tiny(tmp_path), "--json")
    assert again.status == 0
    assert again.last["stages"]["recover"]["units_done"] == 1


def test_failed_units_without_json_print_no_table(
    ask: Ask, run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(run_copy / "condensed")
    break_units(monkeypatch, "recover", "classes-00002-00003_ipc-00000-00000")
    answer = ask("run", *tiny(tmp_path))
    assert (answer.status, answer.stdout) == (3, "")


def test_a_run_folder_made_by_another_config_is_refused_with_the_fields_that_differ(
    ask: Ask, run_copy: Path, tmp_path: Path
) -> None:
    before = (run_copy / "run.yaml").read_bytes()
    answer = ask("run", *tiny(tmp_path, "recover.iterations=4"), "--json")
    assert (answer.status, answer.stdout) == (2, "")
    assert "found:    recover.iterations=3\n" in answer.stderr
    assert "expected: recover.iterations=4\n" in answer.stderr
    assert (run_copy / "run.yaml").read_bytes() == before


def test_one_stage_alone_is_brought_to_completion(ask: Ask, run_copy: Path, tmp_path: Path) -> None:
    for folder in ("labels", "results"):
        shutil.rmtree(run_copy / folder)
    found = ask("stage", "relabel", *tiny(tmp_path), "--json").last
    assert {stage: one["units_done"] for stage, one in found["stages"].items()} == {"relabel": 1}
    assert found["rows"] == []
    assert not (run_copy / "results").exists()


def test_a_stage_before_those_it_needs_ends_with_status_2_and_says_which_to_run(
    ask: Ask, tmp_path: Path
) -> None:
    answer = ask("stage", "statistics", *tiny(tmp_path))
    assert answer.status == 2
    assert "ArtifactError: squeeze: " in answer.stderr
    assert "edc-ray stage squeeze" in answer.stderr


def test_a_run_from_its_own_stored_config_is_the_same_run_wherever_it_lies_and_from_any_folder(
    ask: Ask, run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = run_copy.rename(tmp_path / "moved")
    for folder, config in ((tmp_path, "moved/run.yaml"), (moved, "run.yaml"), (moved, "copied.yaml")):
        monkeypatch.chdir(folder)
        found = ask("run", "--config", config, "--json").last
        assert found["run"] == str(moved)
        assert sum(one["units_done"] for one in found["stages"].values()) == 0
        shutil.copy(moved / "run.yaml", moved / "copied.yaml")  # it states the place


def test_compress_writes_a_sound_copy_and_says_how_much_smaller_it_is(ask: Ask, run_copy: Path) -> None:
    dest = run_copy.parent / "small"
    answer = ask("compress", str(run_copy), "--codec", "pca16", "--keep-epochs", "1", "--dest", str(dest))
    assert (answer.status, answer.stderr, "epochs as pca16" in answer.stdout) == (0, "", True)
    assert ask("verify", str(dest)).status == 0
    assert "'zip' is not a label codec" in ask("compress", str(run_copy), "--codec", "zip").stderr
