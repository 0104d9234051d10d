from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import edc_ray
from edc_ray.config.run import STAGE_NAMES, RunConfig
from edc_ray.data.condensed.images import CondensedImages
from edc_ray.errors import ArtifactError, ConfigError


@pytest.fixture(scope="module")
def run_with_students(tiny_config: Callable[..., RunConfig], tiny_run: Path, tmp_path_factory) -> edc_ray.Run:
    root = tmp_path_factory.mktemp("students")
    shutil.copytree(tiny_run, root / "digits")
    shutil.rmtree(root / "digits" / "results")
    fields = {"evaluate.save_students": True, "evaluate.rows": ["condensed", "init"]}
    return edc_ray.run(tiny_config(root, **fields), progress=False)


def test_a_run_that_is_there_gives_its_rows_and_their_table(tiny_run: Path) -> None:
    run = edc_ray.open(str(tiny_run))
    assert run.url == str(tiny_run)
    assert [(row.row, row.n) for row in run.rows] == [
        ("condensed", 2), ("init", 2), ("random", 2), ("random_hard", 2), ("full", 2),
    ]  # fmt: skip
    first = run.rows[0]
    assert f"{first.top1_mean:.2f} ± {first.top1_std:.2f}" in str(run.table())
    assert "digits, method edc: top-1 on" in str(run.table())


def test_it_gives_its_config_and_how_far_each_stage_is(tiny_run: Path) -> None:
    run = edc_ray.open(str(tiny_run))
    assert (run.config.recover.iterations, run.config.device) == (3, "cpu")
    assert list(run.stages) == list(STAGE_NAMES)
    assert {stage.state for stage in run.stages.values()} == {"complete"}
    assert run.stages["recover"].units == 5
    assert run.verify() == []


def test_its_config_says_where_it_lies_now(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "moved")
    config = edc_ray.open(str(tmp_path / "moved")).config
    assert (config.storage.root, config.run.name) == (str(tmp_path), "moved")


def test_it_gives_its_images_before_and_after_recovery(tiny_run: Path) -> None:
    run = edc_ray.open(str(tiny_run))
    condensed, before = run.images(), run.images("init", ipc=1)
    assert condensed.images.shape == before.images.shape == (10, 1, 16, 16)
    assert (condensed.images != before.images).any()
    assert (before.images == CondensedImages(str(tiny_run), stage="init").images).all()
    with pytest.raises(ConfigError, match=r"unknown kind of images 'condense'\. Did you mean 'condensed'"):
        run.images("condense")  # type: ignore[arg-type]


def test_it_gives_its_views_and_soft_labels_in_batches(tiny_run: Path) -> None:
    batches = list(edc_ray.open(str(tiny_run)).dataset(batch_size=5))
    assert len(batches) == 4  # two epochs of ten views
    assert batches[0].image.shape == (5, 1, 16, 16)
    assert batches[0].logits.shape == (5, 10)


def test_stored_students_come_by_name_as_they_were_judged(run_with_students: edc_ray.Run) -> None:
    students = run_with_students.students()
    assert list(students) == ["convnet_d1"]
    network = students["convnet_d1"]
    assert not network.training
    assert network(torch.zeros(2, 1, 16, 16)).shape == (2, 10)
    other = run_with_students.students("convnet_d1", row="init", seed=1)["convnet_d1"]
    assert any(
        not torch.equal(ours, theirs)
        for ours, theirs in zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_students_that_are_not_there_are_refused_with_what_to_set(
    run_with_students: edc_ray.Run, tiny_run: Path
) -> None:
    with pytest.raises(ArtifactError, match=r"evaluate\.save_students=true"):
        edc_ray.open(str(tiny_run)).students()
    with pytest.raises(ConfigError, match=r"unknown student 'convnet'\. Did you mean 'convnet_d1'"):
        run_with_students.students("convnet")
    with pytest.raises(ConfigError, match=r"unknown row 'condense'\. Did you mean 'condensed'"):
        run_with_students.students(row="condense")
    with pytest.raises(ConfigError, match="has no student of seed 7"):
        run_with_students.students(seed=7)


def test_the_report_is_found_or_written(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "digits")
    run = edc_ray.open(str(tmp_path / "digits"))
    page = tmp_path / "digits" / "report" / "report.html"
    page.write_text("as it was")
    assert run.report() == str(page)
    assert page.read_text() == "as it was"
    page.unlink()
    assert run.report() == str(page)
    assert "condensed" in page.read_text()


def test_a_run_shows_itself_as_text_and_in_a_notebook(tiny_run: Path, tmp_path: Path) -> None:
    assert repr(edc_ray.open(str(tiny_run))).startswith(f"Run('{tiny_run}'): squeeze complete, statistics")
    html = edc_ray.open(str(tiny_run))._repr_html_()
    assert html.count("<td>convnet_d1</td>") == 5
    assert 'src="data:image/png;base64,' in html
    (tmp_path / "a<b").mkdir()
    shutil.copy(tiny_run / "run.yaml", tmp_path / "a<b")
    begun = edc_ray.open(str(tmp_path / "a<b"))
    assert "a&lt;b" in begun._repr_html_()
    assert begun.rows == []


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no run at"):
        edc_ray.open(str(tmp_path / "nowhere"))


def test_it_is_exported_and_compressed_as_the_command_line_does(tiny_run: Path, tmp_path: Path) -> None:
    run = edc_ray.open(str(tiny_run))
    told = run.export(str(tmp_path / "exported"), "imagefolder", ipc=1, license="mit")
    assert (tmp_path / "exported" / "README.md").read_text().startswith('---\nlicense: "mit"')
    assert "images" in told[0]
    assert "q8" in run.compress("q8", str(tmp_path / "smaller"))
    assert edc_ray.open(str(tmp_path / "smaller")).verify() == []


def test_what_it_shares_is_read_with_its_storage_options(tiny_run: Path, tmp_path: Path) -> None:
    # A storage that is not found without its options.
    run = edc_ray.open("dir://digits", {"path": str(tiny_run.parent), "target_protocol": "file"})
    run.export(str(tmp_path / "exported"), "imagefolder", ipc=1)
    run.compress("q8", str(tmp_path / "smaller"))
    assert edc_ray.open(str(tmp_path / "smaller")).verify() == []
