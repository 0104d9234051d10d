"""A user's own images without preparation: 28x28 grey PNGs in one folder for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edc_ray.artifacts.proof.manifest import read_manifest
from edc_ray.artifacts.storage.layout import stage_folder
from edc_ray.artifacts.storage.store import open_store
from edc_ray.config.load import load_yaml
from edc_ray.config.run import STAGE_NAMES
from edc_ray.data.condensed.images import CondensedImages, CondensedViews
from edc_ray.data.real.images import DenseImages
from tests.data.made_images import synthetic_images, write_image_folder
from tests.e2e.command_line import TINY_SETTINGS, CommandLine, Ended

NAMES = ("ankle boot", "bag", "coat")


def _renamed(per_class: int, seed: int) -> DenseImages:
    images = synthetic_images(3, per_class, 28, 1, seed)
    return DenseImages(images.images, images.labels, NAMES)


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ended:
    """The command of the README on these images."""
    write_image_folder(_renamed(10, 0), str(tmp_path / "train"))
    write_image_folder(_renamed(4, 1), str(tmp_path / "val"))
    return CommandLine(monkeypatch, capsys)(
        "run", "digits", "dataset.name=mine", f"dataset.train={tmp_path / 'train'}",
        f"dataset.val=file://{tmp_path / 'val'}", f"storage.root={tmp_path / 'runs'}", "run.name=own",
        *TINY_SETTINGS, "--json", "--quiet",
    )  # fmt: skip


def test_own_grey_images_run_through_the_whole_pipeline(ended: Ended, tmp_path: Path) -> None:
    assert ended.status == 0, ended.err
    store = open_store(str(tmp_path / "runs" / "own"))

    spec = load_yaml(store.read("run.yaml").decode()).dataset
    assert (spec.name, spec.channels, spec.image_size, spec.num_classes) == ("mine", 1, 28, 3)
    assert spec.class_names == NAMES
    assert len(spec.mean or ()) == len(spec.std or ()) == 1

    for folder in map(stage_folder, STAGE_NAMES):
        manifest = read_manifest(store, folder)
        assert manifest is not None
        assert manifest.dataset == {"name": "mine", "class_names": list(NAMES)}

    condensed = CondensedImages(store.url)
    assert condensed.images.shape == (3, 1, 28, 28)
    assert condensed.labels.tolist() == [0, 1, 2]
    assert condensed.class_names == NAMES
    views, logits, _ = CondensedViews(store.url).batch(np.arange(3))
    assert (views.shape, logits.shape) == ((3, 1, 28, 28), (3, 3))

    summary = ended.summary
    assert summary["run"] == store.url
    assert [(row["row"], row["ipc"], row["n"]) for row in summary["rows"]] == [
        ("condensed", 1, 1),
        ("init", 1, 1),
    ]
    assert {stage: made["units_reused"] for stage, made in summary["stages"].items()} == dict.fromkeys(
        STAGE_NAMES, 0
    )
    assert set(summary["observers"]) == {"convnet_d1"}
    assert set(summary["matching_loss"]) == {"first", "last"}
    assert (tmp_path / "runs" / "own" / "report" / "condensed.png").stat().st_size > 100
