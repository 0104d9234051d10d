"""What is cheap to add, added as ARCHITECTURE.md says, in a copy of the package, and run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.e2e.package_copy import PackageCopy


@pytest.fixture
def package(tmp_path: Path) -> PackageCopy:
    return PackageCopy(tmp_path)


METHOD = '''"""A method of one value."""

from edc_ray.config.methods import edc
from edc_ray.config.methods.values import MethodValues, laid_over

VALUES = MethodValues({"recover.statistic_momentum": 0.25}, {"digits": lambda ipc: {"recover.jitter": ipc}})


def calm(config):
    """EDC with less history."""
    return laid_over(config, "calm", edc.VALUES, VALUES)


METHODS = (calm,)
'''


def test_a_method_is_one_file_and_its_difference_from_edc(package: PackageCopy) -> None:
    resolved = package.folder / "tests/config/resolved"
    before = {path.name: path.read_bytes() for path in resolved.iterdir()}
    package.write("edc_ray/config/methods/calm.py", METHOD)
    package.python("-m", "tests.config.write_resolved")
    after = {path.name: path.read_bytes() for path in resolved.iterdir()}
    golden = yaml.safe_load(after.pop("calm.yaml"))
    assert after == before
    assert golden["digits 1"] == {"recover.statistic_momentum": 0.25, "recover.jitter": 1}
    assert golden["cifar10 10"] == {"recover.statistic_momentum": 0.25}
    summary, told = package.run("method=calm")
    assert [row["row"] for row in summary["rows"]] == ["condensed", "init"]
    assert summary["stages"]["recover"]["units_done"] == 1
    assert "method calm, changed: " in told


TERM = '''"""A pixel term: how far the images are from grey."""

from torch import Tensor


def contrast(images_BCHW: Tensor) -> Tensor:
    """Mean square of the pixels."""
    return images_BCHW.square().mean()
'''
SETTINGS, HISTORY = "edc_ray/core/recover/settings.py", "edc_ray/config/history.py"
WEIGHT = "    contrast_weight: float = Field(default=0.0, ge=0)\n"


def _add_field(package: PackageCopy, text: str, field: str, absent: object) -> None:
    """A field of recover, and its absent value, where the last ones stand."""
    before = "    verifier_touches_estimate: bool"
    package.replace(SETTINGS, before, text + before)
    first = '    "compile": "none",\n'
    package.replace(HISTORY, first, f'{first}    "{field}": {absent!r},\n')


def test_a_pixel_term_is_a_function_a_row_and_a_field(package: PackageCopy) -> None:
    def condensed() -> list[bytes]:
        return [path.read_bytes() for path in sorted(package.folder.glob("runs/digits/condensed/*.parquet"))]

    def curves() -> set[str]:
        records = package.folder.glob("runs/digits/condensed/records/*.json")
        return {name for path in records for name in json.loads(path.read_text())["meta"]["curves"]}

    package.run()
    plain = condensed()
    assert "contrast" not in curves()
    package.write("edc_ray/core/recover/contrast.py", TERM)
    objective = "edc_ray/core/recover/objective.py"
    package.replace(
        objective,
        "from edc_ray.core.recover.flatness",
        "from edc_ray.core.recover.contrast import contrast\nfrom edc_ray.core.recover.flatness",
    )
    row = '    Term("contrast", lambda own: own.contrast_weight, lambda seen: contrast(seen.images)),\n'
    package.replace(objective, '    Term("l2",', f'{row}    Term("l2",')
    _add_field(package, WEIGHT, "recover.contrast_weight", 0.0)
    summary, _ = package.run()
    assert summary["stages"]["recover"]["units_done"] == 0  # at its absent value it makes nothing again
    assert condensed() == plain
    package.run("recover.contrast_weight=50", "run.name=digits2")
    package.folder.joinpath("runs/digits").rename(package.folder / "runs/before")
    package.folder.joinpath("runs/digits2").rename(package.folder / "runs/digits")
    assert "contrast" in curves()
    assert condensed() != plain


def test_a_field_makes_again_what_its_default_changes_and_nothing_at_its_absent_value(
    package: PackageCopy,
) -> None:
    first, _ = package.run()
    assert sum(stage["units_done"] for stage in first["stages"].values()) > 0
    field = "    unused: float = Field(default=0.25, ge=0)\n"
    _add_field(package, field, "recover.unused", 0.25)
    again, told = package.run()
    assert {stage["units_done"] for stage in again["stages"].values()} == {0}
    assert "made again" not in told
    package.replace(SETTINGS, field, field.replace("0.25", "0.5"))
    # The folder's config states 0.25 by now; as a run has it that was finished before there was the field:
    config = package.folder / "runs/digits/run.yaml"
    config.write_text(config.read_text().replace("  unused: 0.25\n", ""))
    other, told = package.run()
    done = {name: stage["units_done"] for name, stage in other["stages"].items()}
    assert done["recover"] == 1
    assert done["squeeze"] == done["statistics"] == done["init"] == 0
    assert "recover, relabel, evaluate: made again, recover.unused=0.5 (was 0.25)" in told


OWN = """
import numpy as np
import torch


def network(num_classes, channels):
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, num_classes),
    )


def stripes(role):
    generator = np.random.default_rng(0 if role == "train" else 1)
    labels = np.arange(24) % 2
    images = generator.integers(0, 128, (24, 8, 8), dtype=np.uint8)
    images[labels == 1, ::2] += 127
    return images, labels, ["plain", "striped"]
"""


def test_a_network_and_a_source_of_images_need_no_change(package: PackageCopy) -> None:
    package.write("own.py", OWN)
    summary, _ = package.run(
        "dataset.name=stripes", "dataset.train=own:stripes", "dataset.val=own:stripes",
        "dataset.image_size=null", "squeeze.observers=[own:network]", "evaluate.students=[own:network]",
    )  # fmt: skip
    assert summary["stages"]["squeeze"]["units_done"] == 1
    assert {row["student"] for row in summary["rows"]} == {"own:network"}
    assert list(summary["observers"]) == ["own:network"]
