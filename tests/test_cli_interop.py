"""import, import-statistics and export as a user types them, on one finished run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edc_ray.data.condensed.images import CondensedViews
from tests.e2e.command_line import CommandLine

# What the tiny run of tests/conftest.py is made of.
DIGITS = ["digits", "squeeze.observers=[convnet_d1]", "dataset.num_classes=10", "dataset.channels=1"]
COLOURS = ["dataset.mean=[0.3]", "dataset.std=[0.4]"]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def test_a_run_goes_out_and_comes_back(ask: CommandLine, tiny_run: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "out", tmp_path / "back"
    told = ask("export", str(tiny_run), str(out))
    assert (told.status, told.err) == (0, "")
    assert [line.split(":")[0] for line in told.out.splitlines()] == [
        str(out / part) for part in ("images", "labels", "statistics")
    ]
    assert (out / "images/new009/class009_id000.png").is_file()
    assert (out / "statistics/ConvFeatureHook/class_9/ConvNet_ConvNetD1=features.0/running.npz").is_file()
    words = [*DIGITS, *COLOURS, "--labels", str(out / "labels")]
    imported = ask("import", str(out / "images"), str(back), *words)
    assert imported.out == f"{back}: 10 images of 10 classes, labels of 2 epochs\n"
    statistics = ask("import-statistics", str(out / "statistics"), str(back), *DIGITS)
    assert statistics.out == f"{back}: statistics of convnet_d1\n"
    assert ask("verify", str(back)).out == f"{back}: sound\n"
    np.testing.assert_array_equal(
        CondensedViews(str(back)).rows.logits, CondensedViews(str(tiny_run)).rows.logits
    )


def test_what_nothing_vouches_for_is_not_called_sound(
    ask: CommandLine, tiny_run: Path, tmp_path: Path
) -> None:
    assert (
        ask("export", str(tiny_run), str(tmp_path / "out")).status == 0
    )  # the official layout has no hashes
    told = ask("verify", str(tmp_path / "out"))
    assert (told.status, told.out) == (2, "")
    assert f"nothing in {tmp_path / 'out'} says what its files should hold" in told.err
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "run.yaml").write_bytes((tiny_run / "run.yaml").read_bytes())
    told = ask("verify", str(begun))
    assert (told.status, told.out) == (
        0, f"{begun}: a run without a finished unit, so there is nothing to compare\n",
    )  # fmt: skip


def test_status_of_a_copy_tells_what_is_there(ask: CommandLine, tiny_run: Path, tmp_path: Path) -> None:
    assert ask("export", str(tiny_run), str(tmp_path / "out"), "--format", "huggingface").status == 0
    told = ask("status", str(tmp_path / "out")).out.splitlines()
    assert [line.split()[0] for line in told if "complete" in line] == ["recover", "relabel"]
    assert all("not there" in line for line in told if "complete" not in line)
    (tmp_path / "out/manifest.json").write_text("{")
    told = ask("status", str(tmp_path / "out"))
    assert (told.status, told.err) == (1, "")
    damaged = tmp_path / "out" / "manifest.json"
    assert told.out == f"{damaged} is damaged; edc-ray verify names the damaged files\n"


def test_rded_names_and_flags_are_understood(ask: CommandLine, tiny_run: Path, tmp_path: Path) -> None:
    words = ["--format", "rded", "--image-format", "jpeg"]
    assert ask("export", str(tiny_run), str(tmp_path / "a"), *words).status == 0
    assert (tmp_path / "a/images/00003/class00003_id00000.jpg").is_file()
    words = ["--only", "statistics", "--no-network-names", "--no-class-patch-swapped"]
    assert ask("export", str(tiny_run), str(tmp_path / "b"), *words).status == 0
    assert (tmp_path / "b/statistics/ConvFeatureHook/ConvNet=features.0/running.npz").is_file()
    assert not (tmp_path / "b/images").exists()


def test_a_set_is_given_away_with_its_card_and_comes_back(
    ask: CommandLine, tiny_run: Path, tmp_path: Path
) -> None:
    out, back = tmp_path / "out", tmp_path / "back"
    words = ["--format", "huggingface", "--license", "cc-by-4.0", "--epochs", "1", "--shard-mb", "1"]
    told = ask("export", str(tiny_run), str(out), *words)
    assert (told.status, told.err) == (0, "")
    assert told.out == f"{out}: 10 images, labels of 1 epochs\n"
    card = (out / "README.md").read_text()
    assert 'license: "cc-by-4.0"' in card
    assert "| condensed |" in card
    assert str(tmp_path) not in card
    assert ask("verify", str(out)).out == f"{out}: sound\n"
    assert ask("import", str(out), str(back), *DIGITS).out.endswith(
        "10 images of 10 classes, labels of 1 epochs\n"
    )
    np.testing.assert_array_equal(
        CondensedViews(str(back)).rows.logits, CondensedViews(str(tiny_run)).rows.logits
    )
    (out / "README.md").write_text("other")
    (out / "data/train-00000-of-00001.parquet").write_bytes(b"other")
    damaged = ask("verify", str(out))
    assert damaged.status == 1
    named = {line.split(":")[0] for line in damaged.out.splitlines()[:-1]}
    assert named == {"README.md", "data/train-00000-of-00001.parquet"}
    assert damaged.out.splitlines()[-1] == f"{out}: 2 damaged or missing files"


def test_fewer_images_go_out_without_labels(ask: CommandLine, tiny_run: Path, tmp_path: Path) -> None:
    words = ["--format", "imagefolder", "--ipc", "1", "--image-format", "jpeg"]
    assert ask("export", str(tiny_run), str(tmp_path / "a"), *words).status == 0
    assert (tmp_path / "a/train/00009/class00009_id00000.jpg").is_file()
    assert ask("export", str(tiny_run), str(tmp_path / "b"), "--format", "webdataset").status == 0
    assert (tmp_path / "b/data-000000.tar").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "{run}", "{new}", "--format", "oficial"], "Did you mean 'official'?"),
        (["export", "{run}", "{new}", "--only", "label"], "Did you mean 'labels'?"),
        (["export", "{run}", "{new}", "--image-format", "jpg"], "Did you mean 'jpeg'?"),
        (["export", "{run}", "{new}", "--format", "webdataset", "--only", "labels"], "holds images only"),
        (["export", "{run}", "{new}", "--license", "mit"], "--license says nothing of the format official"),
        (["export", "{run}", "{new}", "--ipc", "99"], "holds fewer images than are asked for"),
        (["export", "{run}", "{new}", "--epochs", "99"], "holds labels of fewer epochs"),
        (["export", "{run}", "{new}", "--batch-size", "7"], "mixed in other groups"),
        (["export", "/nowhere/run", "{new}"], "there is no run at /nowhere/run"),
        (["import", "{run}", "{new}", "digits"], "is no folder of condensed images"),
        (["import", "{run}", "{new}"], "no recipe is given"),
        (["import", "{run}", "{new}", *DIGITS, "--labels", "{run}"], "without mean or std"),
        (["import-statistics", "{run}", "{new}", *DIGITS], "there are no statistics in"),
        (["import-statistics", "{run}", "{new}", "digits"], "needs to know dataset.num_classes"),
        (
            ["run", "digits", "storage.root={new}", "statistics.source={run}"],
            "holds no statistics of observer",
        ),
    ],
)
def test_a_mistake_ends_with_status_2_and_no_results(
    ask: CommandLine, tiny_run: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    new = tmp_path / "new"
    told = ask(*(word.format(run=tiny_run, new=new) for word in words))
    assert (told.status, told.out) == (2, "")
    assert message in told.err
    assert not list(new.rglob("*.json"))
