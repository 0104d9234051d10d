from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edc_ray.kernels import compiler
from edc_ray.kernels.compiler import CACHE_VARIABLE, CompilationError, compiled_library

ANSWER = 'extern "C" int answer() { return %d; }\n'


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler on PATH")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "answer.cpp"
    path.write_text(ANSWER % 42)
    return path


def _cached(source: Path) -> list[str]:
    return sorted(path.name for path in (source.parent / "cache").iterdir())


def test_a_library_is_compiled_once_and_anew_for_another_source(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compiled_library(source).answer() == 42
    (kept,) = _cached(source)
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "_compile", lambda *_: pytest.fail("compiled again"))
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
