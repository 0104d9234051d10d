from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edc_ray.kernels.cpu import library
from edc_ray.kernels.cpu.library import CACHE_VARIABLE, CompilationError, compiled_library, kernel_source
from tests.architecture.source_tree import ROOT

ANSWER = 'extern "C" int answer() { return %d; }\n'


KERNELS = ("statistics", "image_statistics", "views", "norm_pool", "rand_augment")


@pytest.fixture
def source(own_cache: Path) -> Path:
    path = own_cache / "answer.cpp"
    path.write_text(ANSWER % 42)
    return path


def _cached(source: Path) -> list[str]:
    return sorted(path.name for path in (source.parent / "cache").iterdir())


def test_a_library_is_compiled_once_and_again_for_another_source(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compiled_library(source).answer() == 42
    (kept,) = _cached(source)
    with monkeypatch.context() as patch:
        patch.setattr(library, "_compile", lambda *_: pytest.fail("compiled again"))
        assert compiled_library(source).answer() == 42
    source.write_text(ANSWER % 43)
    assert compiled_library(source).answer() == 43
    assert kept in _cached(source)
    assert len(_cached(source)) == 2


def test_several_at_once_leave_one_whole_library(source: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: compiled_library(source).answer(), range(4)))
    assert answers == [42] * 4
    assert len(_cached(source)) == 1


def test_a_source_that_does_not_compile_is_answered_with_the_compilers_words(source: Path) -> None:
    source.write_text("int broken( {")
    with pytest.raises(CompilationError, match="makes no library that loads"):
        compiled_library(source)
    assert _cached(source) == []


def test_without_a_compiler_that_is_said(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(source.parent))
    with pytest.raises(CompilationError, match="no C\\+\\+ compiler on PATH"):
        compiled_library(source)


@pytest.mark.skipif(os.name != "posix", reason="folders elsewhere have other rights")
def test_a_cache_that_cannot_be_written_is_replaced_by_a_folder_of_this_process(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(source / "below-a-file"))
    assert compiled_library(source).answer() == 42


def _needed(name: str) -> set[Path]:
    """A kernel's file and the package's own headers that it reads, themselves and through each other."""
    found, unread = set[Path](), [kernel_source(name)]
    while unread:
        path = unread.pop()
        found.add(path)
        included = re.findall(r'^#include "([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
        unread += [header for text in included if (header := path.parent / text) not in found]
    return found


def test_the_folder_of_sources_holds_what_kernels_need_and_nothing_else() -> None:
    there = set(kernel_source("statistics").parent.iterdir())
    assert there == set.union(*(_needed(name) for name in KERNELS))
    strays = [path for path in (ROOT / "edc_ray").rglob("*") if path.suffix in (".cpp", ".h")]
    assert set(strays) == there


@pytest.mark.nightly
def test_a_wheel_has_the_kernels(tmp_path: Path) -> None:
    uv = shutil.which("uv", path=f"{ROOT / '.uv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("no uv to build a wheel with")
    command = [uv, "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, timeout=200)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    needed = set.union(*(_needed(name) for name in KERNELS))
    assert {path.relative_to(ROOT).as_posix() for path in needed} <= packed
