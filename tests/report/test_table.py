from __future__ import annotations

import io
import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from edc_ray.report.table import ROWS, ResultRow, ShownTable, aggregate, print_table, results_table


def result(row: str, seed: int, top1: float, **more: Any) -> dict[str, Any]:
    return {"row": row, "ipc": 3, "student": "convnet", "seed": seed, "top1": top1, "top5": None} | more


THREE = [result("condensed", seed, top1) for seed, top1 in enumerate([80.0, 82.0, 87.0])]


@given(st.lists(st.floats(0, 100), min_size=2, max_size=8))
def test_mean_and_sample_standard_deviation_equal_numpys(values: list[float]) -> None:
    (row,) = aggregate(result("condensed", seed, value) for seed, value in enumerate(values))
    assert row.n == len(values)
    assert math.isclose(row.top1_mean, np.mean(values), abs_tol=1e-9)
    assert row.top1_std is not None
    assert math.isclose(row.top1_std, np.std(values, ddof=1), rel_tol=1e-6, abs_tol=1e-6)


def test_one_training_has_no_standard_deviation() -> None:
    (row,) = aggregate([result("full", 0, 91.0)])
    assert (row.n, row.top1_std) == (1, None)
    assert "91.00 ± -" in results_table([row]).to_markdown()


def test_rows_come_in_the_order_of_the_table_student_after_student() -> None:
    results = [result(row, 0, 1.0, student=name) for name in ("b", "a") for row in reversed(ROWS)]
    assert [(row.student, row.row) for row in aggregate(results)] == [
        (name, row) for name in ("b", "a") for row in ROWS
    ]


def test_top5_is_averaged_only_where_every_training_measured_it() -> None:
    both = [result("init", 0, 1.0, top5=40.0), result("init", 1, 1.0, top5=50.0)]
    some = [result("random", 0, 1.0, top5=40.0), result("random", 1, 1.0)]
    assert [row.top5_mean for row in aggregate([*both, *some])] == [45.0, None]


def test_calibration_has_a_column_where_it_was_measured() -> None:
    measured = aggregate([result("init", 0, 1.0, ece=0.25), result("init", 1, 1.0, ece=0.5)])
    assert measured[0].ece_mean == 0.375
    assert "| ECE |" in results_table(measured).to_markdown()
    assert "| 0.375 |" in results_table(measured).to_markdown()
    assert "ECE" not in results_table(aggregate(THREE)).to_markdown()
    assert "| - |\n" in results_table([*measured, *aggregate(THREE)]).to_markdown()


def test_a_seed_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        aggregate([*THREE, THREE[0]])


def test_an_unknown_row_is_refused() -> None:
    with pytest.raises(ValueError, match="'best'"):
        aggregate([result("best", 0, 1.0)])


def test_the_terminal_table_shows_mean_std_and_n() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(results_table(aggregate(THREE), title="digits"))
    text = console.export_text()
    for shown in ("digits", "condensed", "convnet", " 3 ", "83.00 ± 3.61"):
        assert shown in text


def test_markdown_has_one_line_a_row_and_escapes_bars() -> None:
    cited = ResultRow("full", None, "convnet", 0, 99.0, None, None, note="cited: a|b")
    text = results_table([*aggregate(THREE), cited]).to_markdown()
    assert text.splitlines() == [
        "| row | ipc | student | n | top-1 (%) | top-5 (%) | note |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| condensed | 3 | convnet | 3 | 83.00 ± 3.61 | - |  |",
        "| full | - | convnet | cited | 99.00 | - | cited: a\\|b |",
    ]


def test_a_table_as_text_has_its_title_and_every_cell_and_no_colour() -> None:
    text = repr(results_table(aggregate(THREE), title="digits"))
    assert "digits" in text.splitlines()[0]
    assert "│ condensed │   3 │ convnet │ 3 │ 83.00 ± 3.61 │" in text
    assert "\x1b" not in text


def test_a_table_as_html_escapes_its_texts() -> None:
    html = ShownTable("a<b", ["row"], [["<i>"]])._repr_html_()
    assert "<caption>a&lt;b</caption>" in html
    assert "<th>row</th>" in html
    assert "<td>&lt;i&gt;</td>" in html


def test_markup_in_a_cell_is_shown_as_it_stands() -> None:
    assert "[red]hot" in repr(ShownTable("", ["row"], [["[red]hot"]]))


@pytest.mark.parametrize(("columns", "has_styles"), [("72", False), ("73", True)])
def test_a_terminal_that_is_too_narrow_gets_the_whole_table_without_styles(
    columns: str, has_styles: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(ShownTable("", ["a" * 30, "b" * 36], [["1", "91.33 ± 0.22"]]))
    shown = capsys.readouterr().out
    assert ("\x1b[" in shown) == has_styles
    assert "b" * 36 in shown
    assert "91.33 ± 0.22" in shown


def test_as_text_a_table_is_whole_and_in_the_letters_of_the_encoding() -> None:
    long = "a value of a sweep that is far longer than a terminal is wide " * 3
    table = ShownTable("t", ["field", "top-1 (%)"], [[long, "91.33 ± 0.22"], ["é", "-"]])
    assert long.strip() in table.to_text()
    assert "91.33 ± 0.22" in table.to_text()
    plain = table.to_text("ascii")
    assert plain.isascii()
    assert "91.33 +/- 0.22" in plain
    widths = {len(line) for line in plain.splitlines()[2:]}
    assert len(widths) == 1
