from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import edc_ray
from edc_ray.config.run import RunConfig
from edc_ray.errors import ConfigError, UnitsFailedError

Config = Callable[..., RunConfig]


@pytest.fixture
def run_copy(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished tiny run, in tmp_path."""
    shutil.copytree(tiny_run, tmp_path / "digits")
    return tmp_path / "digits"


def test_a_run_is_made_without_a_word_and_returned(
    tiny_config: Config, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = edc_ray.run(tiny_config(tmp_path), stages=["init", "squeeze"])
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "")
    assert run.url == str(tmp_path / "digits")
    assert [name for name, stage in run.stages.items() if stage.state == "complete"] == ["squeeze", "init"]
    assert Path(run.report()).is_file()


def test_what_is_complete_is_left_alone(tiny_config: Config, run_copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run_copy.rglob("*.parquet")}
    run = edc_ray.run(tiny_config(run_copy.parent))
    assert len(run.rows) == 5
    assert {path: path.stat().st_mtime_ns for path in run_copy.rglob("*.parquet")} == before


def test_events_are_given_to_who_asks_for_them(tiny_config: Config, run_copy: Path) -> None:
    events: list[dict[str, Any]] = []
    edc_ray.run(tiny_config(run_copy.parent), on_event=events.append)
    opened = next(event for event in events if event["event"] == "run_opened")
    assert opened["run"] == str(run_copy)
    assert [event["stage"] for event in events if event["event"] == "stage_reused"][-1] == "evaluate"


def test_what_is_changed_of_the_method_is_logged(
    tiny_config: Config, run_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edc_ray")
    edc_ray.run(tiny_config(run_copy.parent))
    assert any("recover.iterations=3" in message for message in caplog.messages)


def test_mistakes_are_exceptions(tiny_config: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown stage 'recovr'\. Did you mean 'recover'"):
        edc_ray.run(tiny_config(tmp_path), ["recovr"])
    with pytest.raises(UnitsFailedError, match="recover: 5 of 5 units failed"):
        edc_ray.run(tiny_config(tmp_path, **{"recover.matching_weight": 1e300}))


def test_a_run_within_a_running_event_loop_is_the_same(tiny_config: Config, run_copy: Path) -> None:
    shutil.rmtree(run_copy / "init")

    async def cell() -> edc_ray.Run:
        return edc_ray.run(tiny_config(run_copy.parent))

    assert len(asyncio.run(cell()).rows) == 5


def test_a_notebook_shows_one_bar_and_the_run(
    tiny_config: Config, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(run_copy / "condensed")
    (run_copy.parent / "run.yaml").write_text(edc_ray.to_yaml(tiny_config(run_copy.parent)))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    cell = nbformat.v4.new_code_cell(
        f"import edc_ray\nrun = edc_ray.run(edc_ray.load_config({str(run_copy.parent / 'run.yaml')!r}))\nrun"
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
    bar, shown = notebook.cells[0].outputs
    assert bar.output_type == "display_data"
    assert "done" in bar.data["text/plain"]
    assert "10/10" in bar.data["text/plain"]  # units of evaluate, the last stage
    assert "<td>convnet_d1</td>" in shown.data["text/html"]


def test_a_sweep_keeps_its_good_trials_and_names_the_failed_ones(tiny_config: Config, tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "evaluate.rows": ["condensed"], "evaluate.seeds": 1,
        "sweep.space": {"recover.matching_weight": [1e300, 0.01]},
    }  # fmt: skip
    found = edc_ray.sweep(tiny_config(tmp_path, **fields))
    bad, good = found.trials
    assert found.failed == [bad]
    assert "NumericalError" in bad["error"]
    assert (good["fields"], good["reused"], good["n"]) == ({"recover.matching_weight": 0.01}, False, 1)
    best, last = found.table().lines
    assert best == ["0.01", "1", f"{good['top1_mean']:.2f} ± -", good["trial"]]
    assert last[1:3] == ["-", "failed"]
    assert good["trial"] in found._repr_html_()
