from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from edc_ray.kernels.cpu import library
from edc_ray.kernels.cpu.library import (
    CompilationError,
    KernelLibrary,
    kernel_library,
    kernel_of_the_same_bits,
    kernel_source,
)

SOURCE = """
extern "C" int tell(double *told, const float *numbers, const void *nothing, long whole, double share,
                    long last, double round, int threads) {
    told[0] = numbers[1];
    told[1] = nothing == nullptr;
    told[2] = whole;
    told[3] = share;
    told[4] = last;
    told[5] = round;
    told[6] = threads;
    return 0;
}
extern "C" int find_no_memory(long answer, int) { return answer; }
"""


@pytest.fixture
def small(own_cache: Path) -> KernelLibrary:
    path = own_cache / "small.cpp"
    path.write_text(SOURCE, encoding="utf-8")
    return KernelLibrary(path)


@pytest.mark.parametrize("threads", [1, 3])
def test_every_kind_of_argument_arrives_and_the_number_of_threads_last(
    small: KernelLibrary, threads: int
) -> None:
    numbers, told = torch.tensor([9.0, 7.0, 2.5])[1:], torch.zeros(7, dtype=torch.float64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        small.call("tell", told, numbers, None, 2**40 + 1, 0.1, -5, 3.0)
    finally:
        torch.set_num_threads(before)
    assert told.tolist() == [2.5, 1, 2**40 + 1, 0.1, -5, 3, threads]


def test_a_function_that_finds_no_memory_is_named(small: KernelLibrary) -> None:
    small.call("find_no_memory", 0)
    for answer in (1, 2, -1):
        with pytest.raises(MemoryError, match="no memory for the intermediate results of find_no_memory"):
            small.call("find_no_memory", answer)


def test_a_file_is_looked_for_once_and_its_absence_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("CXX", raising=False)
        patch.setenv("PATH", str(tmp_path))
        assert kernel_library.__wrapped__("views") == "no C++ compiler on PATH"
    tries: list[Path] = []

    def fails(source: Path) -> None:
        tries.append(source)
        raise CompilationError("says this test")

    monkeypatch.setattr(library, "compiled_library", fails)
    names = [f"{tmp_path.name}-{number}" for number in (1, 2)]
    assert [kernel_library(name) for name in (*names, *names)] == ["says this test"] * 4
    assert tries == [kernel_source(name) for name in names]


def test_a_kernel_is_taken_only_after_it_has_made_the_same_bits(
    small: KernelLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "kernel_library", lambda name: {"small": small}.get(name, f"no {name}"))

    def make(found: KernelLibrary) -> tuple[str, KernelLibrary]:
        return "kernel of", found

    shown = []
    for same in (True, False):
        answer = kernel_of_the_same_bits(
            "small", make, lambda kernel, same=same: shown.append(kernel) or same
        )
        assert answer == (make(small) if same else "it makes other bits than torch's operations")
    assert shown == [make(small)] * 2
    assert kernel_of_the_same_bits("other", make, lambda _: pytest.fail("there is none")) == "no other"


def _linked_by_name(text: str) -> list[str]:
    """The text of every function in a C++ file that a library is asked for by its name."""
    blocks = re.findall(r'^extern "C" \{\n(.*?)^\} // extern "C"$', text, re.MULTILINE | re.DOTALL)
    alone = re.findall(r'^extern "C" (\w[^{]*\{\n.*?^\})$', text, re.MULTILINE | re.DOTALL)
    return [*re.findall(r"^\w.*?^\}$", "\n".join(blocks), re.MULTILINE | re.DOTALL), *alone]


def test_every_function_that_is_called_returns_whether_memory_is_missing() -> None:
    """A function without a result leaves anything in place of one."""
    texts = [path.read_text(encoding="utf-8") for path in kernel_source("views").parent.iterdir()]
    functions = [function for text in texts for function in _linked_by_name(text)]
    names = {found[1] for function in functions if (found := re.match(r"\w+ (\w+)\(", function))}
    assert {"norms_forward", "norm_pool_backward", "image_statistics", "cut_views", "change_images"} <= names
    assert len(names) == len(functions)
    returning = re.compile(r"int \w+\([^)]*\) \{\n.*\n +return [^\n;]+;\n\}", re.DOTALL)
    assert [function for function in functions if not returning.fullmatch(function)] == []
