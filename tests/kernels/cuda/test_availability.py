from __future__ import annotations

import shutil

import pytest
import torch

from edc_ray.kernels.cuda import availability
from edc_ray.kernels.cuda.availability import captured_recover_for, triton_kernels


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    why = triton_kernels.__wrapped__
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(availability.importlib.util, "find_spec", lambda name: None)
    assert why() == "no Triton"
    monkeypatch.setattr(availability.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "no C compiler" in str(why())
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert why() == "no CUDA device"
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert "ROCm" in str(why())


def test_on_a_cpu_nothing_is_captured() -> None:
    assert captured_recover_for(torch.device("cpu")) is None
