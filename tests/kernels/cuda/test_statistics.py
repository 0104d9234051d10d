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
