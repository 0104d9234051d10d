"""What is cheap to add, added as ARCHITECTURE.md says, in a copy of the package, and run."""

from __future__ import annotations

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
