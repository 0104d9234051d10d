"""The benchmark of a whole run: how its options change the recipe, and how it sums up its turns."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
from bench_pipeline import Cost, config_of, each_of, medians_of, parsed


def _options(monkeypatch: pytest.MonkeyPatch, *words: str) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", ["bench_pipeline.py", *words])
    return parsed()


def test_the_short_form_has_fewer_iterations_and_what_is_asked_for_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = config_of(_options(monkeypatch), tmp_path)
    short = config_of(_options(monkeypatch, "--short", "--set", "relabel.epochs=7"), tmp_path)
    assert 0 < short.recover.iterations < whole.recover.iterations
    assert short.relabel.epochs == 7
    assert short.ipc == whole.ipc


def test_the_run_has_the_precision_that_the_record_tells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(
        _options(monkeypatch, "--precision", "bfloat16", "--compile", "default", "--whole"), tmp_path
    )
    assert (config.precision, config.compile) == ("bfloat16", "default")
    with pytest.raises(SystemExit):
        _options(monkeypatch, "--set", "precision=float16")
    assert "give --precision" in capsys.readouterr().err


def test_a_step_has_the_least_and_the_median_of_its_turns() -> None:
    turns = [{"a": Cost(wall, 2 * wall, peak)} for wall, peak in ((3.0, None), (1.0, 5.0), (8.0, 4.0))]
    assert each_of(turns, min) == {"a": Cost(1.0, 2.0, 4.0)}
    times = {"reference_wall_median_s": 3.0, "reference_cpu_median_s": 6.0}
    assert medians_of("reference_", turns) == {"a": times, "total": times}
    assert medians_of("reference_", [{}]) == {}
