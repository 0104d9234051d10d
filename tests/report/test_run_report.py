from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edc_ray.artifacts.proof.manifest import read_manifest
from edc_ray.artifacts.proof.records import to_json
from edc_ray.artifacts.storage.store import open_store
from edc_ray.errors import ArtifactError
from edc_ray.report import run_report
from edc_ray.report.run_report import class_table, result_rows, write_report
from edc_ray.stages.units.event_log import read_events

PICTURES = [
    "init.png", "condensed.png", "squeeze_curves.png", "recover_curves.png", "evaluate_curves.png",
]  # fmt: skip


@pytest.fixture
def run_copy(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run without its report."""
    shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    return tmp_path / "run"


@pytest.fixture
def without_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take a second each and are tested elsewhere."""
    monkeypatch.setattr(run_report, "plot_curves", lambda events, stage: None)


def report(run: Path, *, tensorboard: bool = False) -> list[str]:
    store = open_store(str(run))
    return write_report(store, read_events(store), tensorboard=tensorboard)


def test_a_finished_run_has_a_page_pictures_curves_and_a_table(run_copy: Path) -> None:
    written = report(run_copy)
    assert written == [str(run_copy / "report" / name) for name in ["report.html", *PICTURES]]
    for name in PICTURES:
        image = Image.open(run_copy / "report" / name)
        assert np.asarray(image.convert("L")).std() > 1  # not blank
    assert not (run_copy / "report" / "tensorboard").exists()


@pytest.mark.usefixtures("without_curves")
def test_the_page_shows_the_runs_name_rows_config_and_environment(run_copy: Path) -> None:
    report(run_copy)
    page = (run_copy / "report" / "report.html").read_text()
    for text in ("<title>run", "random_hard", "observers:", "convnet_d1", "torch"):
        assert text in page


@pytest.mark.usefixtures("without_curves")
def test_the_page_shows_calibration_and_the_accuracy_of_each_class(run_copy: Path) -> None:
    report(run_copy)
    page = (run_copy / "report" / "report.html").read_text()
    store = open_store(str(run_copy))
    table = class_table(store)
    headings, lines = table.headings, table.lines
    assert headings == ["class", *(f"{row.row}, {row.student}" for row in result_rows(store))]
    assert [line[0] for line in lines] == [str(digit) for digit in range(10)]
    for column, row in enumerate(result_rows(store), start=1):
        # The classes have equally many validation images.
        assert np.mean([float(line[column]) for line in lines]) == pytest.approx(row.top1_mean, abs=0.1)
        assert row.ece_mean is not None
        assert f"<td>{row.ece_mean:.3f}</td>" in page
    assert all(f"<th>{heading}</th>" in page for heading in headings)


def test_a_run_without_results_has_no_accuracy_of_classes(run_copy: Path) -> None:
    shutil.rmtree(run_copy / "results")
    assert class_table(open_store(str(run_copy))).lines == []


@pytest.mark.usefixtures("without_curves")
def test_the_table_has_one_line_for_each_row_and_the_same_figures_as_the_results(run_copy: Path) -> None:
    report(run_copy)
    lines = (run_copy / "report" / "table.md").read_text().splitlines()[2:]
    rows = result_rows(open_store(str(run_copy)))
    assert [line.split(" | ")[0] for line in lines] == [f"| {row.row}" for row in rows]
    assert all(f"{row.top1_mean:.2f}" in line for row, line in zip(rows, lines, strict=True))


def test_rows_of_a_finished_run_hold_every_student(tiny_run: Path) -> None:
    rows = result_rows(open_store(str(tiny_run), writable=False))
    assert [(row.row, row.ipc, row.n) for row in rows] == [
        ("condensed", 1, 2), ("init", 1, 2), ("random", 1, 2), ("random_hard", 1, 2), ("full", None, 2),
    ]  # fmt: skip


@pytest.mark.usefixtures("without_curves")
def test_a_run_without_results_has_no_rows_and_reports_what_there_is(run_copy: Path) -> None:
    for folder in ("results", "labels", "condensed"):
        shutil.rmtree(run_copy / folder)
    assert result_rows(open_store(str(run_copy))) == []
    names = [url.rsplit("/", 1)[1] for url in report(run_copy)]
    assert "init.png" in names
    assert "condensed.png" not in names


@pytest.mark.usefixtures("without_curves")
def test_a_report_written_again_replaces_the_one_before(run_copy: Path) -> None:
    report(run_copy)
    (run_copy / "report" / "table.md").write_text("old")
    (run_copy / "report" / "condensed.png").write_bytes(b"old")
    report(run_copy)
    assert "condensed" in (run_copy / "report" / "table.md").read_text()
    assert (run_copy / "report" / "condensed.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.usefixtures("without_curves")
def test_tensorboard_files_are_written_below_the_report_when_asked_for(run_copy: Path) -> None:
    report(run_copy, tensorboard=True)
    files = list((run_copy / "report" / "tensorboard").rglob("events.out.tfevents.*"))
    assert {file.relative_to(run_copy / "report" / "tensorboard").parts[0] for file in files} == {
        "squeeze", "recover", "evaluate",
    }  # fmt: skip


@pytest.mark.usefixtures("without_curves")
def test_tensorboard_shows_no_point_of_an_earlier_report_again(run_copy: Path) -> None:
    earlier = run_copy / "report" / "tensorboard" / "recover" / "events.out.tfevents.1"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    report(run_copy, tensorboard=True)
    assert not earlier.exists()
    assert list(earlier.parent.iterdir())


@pytest.mark.usefixtures("without_curves")
def test_a_large_run_shows_only_its_first_classes_and_columns(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def height() -> int:
        report(run_copy)
        return Image.open(io.BytesIO((run_copy / "report" / "condensed.png").read_bytes())).height

    all_classes = height()
    monkeypatch.setattr(run_report, "_CLASSES_SHOWN", 2)
    assert height() < all_classes / 2


def test_a_cited_accuracy_is_marked_as_such(run_copy: Path) -> None:
    manifest = run_copy / "results" / "manifest.json"
    stored = read_manifest(open_store(str(run_copy)), "results")
    assert stored is not None
    manifest.write_bytes(to_json(replace(stored, meta=stored.meta | {"full_cited": 95.5})))
    cited = result_rows(open_store(str(run_copy)))[-1]
    assert (cited.row, cited.n, cited.top1_mean, cited.top1_std) == ("full", 0, 95.5, None)
    assert "cited" in cited.note


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no run at"):
        write_report(open_store(str(tmp_path)), [])


def test_a_damaged_image_shard_is_no_picture_but_an_error(run_copy: Path) -> None:
    shard = next((run_copy / "condensed").glob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="is damaged"):
        report(run_copy)
