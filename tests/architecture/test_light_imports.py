"""What else importing a layer imports, each in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.architecture.source_tree import ROOT, layer_of, python_files

WITHOUT_RAY = ("config", "core", "models", "artifacts", "data", "stages", "report", "launch", "face", "cli")

_REPORT_WHAT_IS_LOADED = """
import importlib, json, sys
for module in json.loads(sys.argv[1]):
    importlib.import_module(module)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def packages_loaded_by(modules: list[str]) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _REPORT_WHAT_IS_LOADED, json.dumps(modules)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def modules_of(*layers: str) -> list[str]:
    files = [path for path in python_files("edc_ray") if layer_of(path) in layers]
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]


def test_every_layer_but_cluster_works_where_ray_is_not_imported() -> None:
    assert "ray" not in packages_loaded_by(modules_of(*WITHOUT_RAY))


@pytest.mark.parametrize("package", ["edc_ray", "edc_ray.config.load", "edc_ray.core", "edc_ray.report"])
def test_a_package_or_a_config_brings_no_heavy_library(package: str) -> None:
    assert not packages_loaded_by([package]) & {"torch", "ray", "pyarrow", "matplotlib", "sklearn"}
