from __future__ import annotations

import pickle
import tomllib
from pathlib import Path

import pytest

from edc_ray import errors
from edc_ray.artifacts.storage.store import open_store
from edc_ray.data.real.urls import find_images
from edc_ray.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    EdcRayError,
    NumericalError,
    ResourceError,
    UnitsFailedError,
    how_to_install,
)

KINDS = [ConfigError, DataError, ArtifactError, ResourceError, NumericalError, UnitsFailedError]


def test_a_message_shows_its_parts_in_order_and_leaves_out_those_not_given() -> None:
    error = DataError("train is empty", next="give images", found=0)
    assert str(error) == "train is empty\n  found:    0\n  next:     give images"
    assert str(DataError("train is empty")) == "train is empty"


def test_the_four_parts_stand_in_the_order_summary_found_expected_next() -> None:
    error = EdcRayError("summary", next="do", expected="this", found="that")
    assert [line.split(":")[0].strip() for line in str(error).splitlines()] == [
        "summary", "found", "expected", "next",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_that_crosses_a_process_keeps_its_kind_and_parts(kind: type[EdcRayError]) -> None:
    error = kind("recover: broken", found=3, expected="none", next="try again")
    error.add_note("in unit 4")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert (copy.summary, copy.found, copy.expected, copy.next) == ("recover: broken", 3, "none", "try again")
    assert copy.__notes__ == ["in unit 4"]


def test_an_error_about_what_cannot_cross_a_process_crosses_as_its_text() -> None:
    error = DataError("train is damaged", found=lambda: 0, expected=[1, "two"])
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert (copy.found, copy.expected) == (str(error.found), [1, "two"])


def test_a_child_with_its_own_constructor_crosses_a_process() -> None:
    copy = pickle.loads(pickle.dumps(BrokenUnitError("classes 0-1")))
    assert (str(copy), copy.unit) == ("unit classes 0-1 is broken", "classes 0-1")


class BrokenUnitError(EdcRayError):
    def __init__(self, unit: str) -> None:
        super().__init__(f"unit {unit} is broken")
        self.unit = unit


@pytest.mark.parametrize(
    ("kind", "status"),
    [*((kind, 2) for kind in KINDS[:4]), (NumericalError, 1), (UnitsFailedError, 3), (EdcRayError, 1)],
)
def test_a_users_mistake_ends_with_2_failed_units_with_3_and_anything_else_with_1(
    kind: type[EdcRayError], status: int
) -> None:
    assert kind("broken").exit_status == status


def test_an_extra_is_installed_in_a_clone_or_by_pip_and_one_function_says_so() -> None:
    told = "pip install 'edc-ray[s3]', or make extra EXTRA=s3 in a clone; on every node"
    assert how_to_install("s3") == told
    root = Path(errors.__file__).parent
    assert [file.name for file in root.rglob("*.py") if "edc-ray[" in file.read_text()] == ["errors.py"]


@pytest.mark.parametrize("url", ["gs://b/x", "az://b/x", "abfs://b/x"])
def test_a_url_without_its_library_says_which_extra_of_ours_has_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object, **__: object) -> None:
        raise ImportError("Install the library")

    monkeypatch.setattr("fsspec.core.get_filesystem_class", absent)
    extra = "gcs" if url.startswith("gs") else "azure"
    extras = tomllib.loads((Path(errors.__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert extra in extras["optional-dependencies"]
    for opened in (lambda: open_store(url), lambda: find_images(url)):
        with pytest.raises(EdcRayError, match=r"cannot open|needs a library") as caught:
            opened()
        assert (caught.value.found, caught.value.next) == ("Install the library", how_to_install(extra))


def test_extras_are_named_alike_in_the_package_the_makefile_and_the_documents() -> None:
    root = Path(errors.__file__).parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = [name for name in project["optional-dependencies"] if name not in ("dev", "fuzz")]
    assert f"EXTRAS := {' '.join(extras)}\n" in (root / "Makefile").read_text()
    readme = (root / "README.md").read_text()
    assert all(f"`{name}`" in readme or f"EXTRA={name}`" in readme for name in extras)
