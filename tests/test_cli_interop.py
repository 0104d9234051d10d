"""import, import-statistics and export as a user types them, on one finished run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edc_ray.data.condensed import CondensedViews
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


def test_rded_names_and_flags_are_understood(ask: CommandLine, tiny_run: Path, tmp_path: Path) -> None:
    words = ["--format", "rded", "--image-format", "jpeg"]
    assert ask("export", str(tiny_run), str(tmp_path / "a"), *words).status == 0
    assert (tmp_path / "a/images/00003/class00003_id00000.jpg").is_file()
    words = ["--only", "statistics", "--no-network-names", "--no-class-patch-swapped"]
    assert ask("export", str(tiny_run), str(tmp_path / "b"), *words).status == 0
    assert (tmp_path / "b/statistics/ConvFeatureHook/ConvNet=features.0/running.npz").is_file()
    assert not (tmp_path / "b/images").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "{run}", "{new}", "--format", "oficial"], "Did you mean 'official'?"),
        (["export", "{run}", "{new}", "--only", "label"], "Did you mean 'labels'?"),
        (["export", "{run}", "{new}", "--image-format", "jpg"], "Did you mean 'jpeg'?"),
        (["export", "{run}", "{new}", "--batch-size", "7"], "mixed in other groups"),
        (["export", "/nowhere/run", "{new}"], "there is no run at /nowhere/run"),
        (["import", "{run}", "{new}", "digits"], "is no folder of condensed images"),
        (["import", "{run}", "{new}"], "no recipe is given"),
        (["import", "{run}", "{new}", *DIGITS, "--labels", "{run}"], "without mean or std"),
        (["import-statistics", "{run}", "{new}", *DIGITS], "no official statistics of a network"),
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
