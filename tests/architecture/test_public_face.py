"""What `import edc_ray` offers, and what it costs."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import edc_ray
from tests.architecture.source_tree import ROOT, parsed

HEAVY = {"torch", "torchvision", "ray", "pyarrow", "numpy", "matplotlib"}
_LIGHT_USE = """
import sys
import edc_ray
config = edc_ray.recipe("digits", ipc=1, recover={"iterations": 100})
edc_ray.to_yaml(config)
assert {"run", "Run"} <= set(dir(edc_ray))
print(*{name.partition(".")[0] for name in sys.modules})
"""


def packages_loaded_by(script: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_and_making_a_config_brings_no_heavy_library() -> None:
    assert not HEAVY & packages_loaded_by(_LIGHT_USE)


def test_opening_a_run_brings_neither_ray_nor_what_draws() -> None:
    script = "import sys, edc_ray; edc_ray.open; print(*{name.partition('.')[0] for name in sys.modules})"
    assert not {"ray", "matplotlib", "tensorboardX"} & packages_loaded_by(script)


@pytest.mark.parametrize("name", edc_ray.__all__)
def test_a_name_of_the_face_exists_and_is_documented(name: str) -> None:
    found = getattr(edc_ray, name)
    assert name == "__version__" or inspect.getdoc(found)


def test_a_name_that_is_not_offered_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'reciep'"):
        _ = edc_ray.reciep  # type: ignore[attr-defined]


def test_type_checkers_see_every_name_that_is_imported_on_first_use() -> None:
    module = parsed(Path("edc_ray/__init__.py"))
    (block,) = [node for node in module.body if isinstance(node, ast.If)]
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(edc_ray.__all__) - {"__version__"}


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "edc_ray" / "py.typed").is_file()
