from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("kernel_cases.py")


def _run(environment: dict[str, str]) -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-W", "ignore", str(CASES)]
    done = subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton")
def test_the_kernels_hold_in_tritons_interpreter() -> None:
    # Triton looks at the variable when a kernel is defined: in a process of its own.
    _run({"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"})


@pytest.mark.gpu
def test_the_kernels_hold_on_a_cuda_device() -> None:
    _run({"PYTHONWARNINGS": "ignore"})


KERNELS = "adding_up gradient_pass measuring_pass pixel_step spreading view_gradient_pass view_pass"


def _compile_ahead(folder: Path, *words: str) -> dict[str, str]:
    """Capability -> names of the kernels that Triton compiled for it, without a driver."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(folder), "PYTHONWARNINGS": "ignore"}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-m", "tests.kernels.cuda.compile_ahead", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    return {capability: names for capability, _, names in lines}


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton")
def test_every_kernel_compiles_for_hopper(tmp_path: Path) -> None:
    assert _compile_ahead(tmp_path, "90") == {"90": KERNELS}


@pytest.mark.nightly
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton")
def test_every_form_of_every_kernel_compiles_for_ampere_and_hopper(tmp_path: Path) -> None:
    assert _compile_ahead(tmp_path, "80", "90", "--all") == {"80": KERNELS, "90": KERNELS}
