from __future__ import annotations

import pytest
import torch

from edc_ray.config.load import load_recipe, with_fields
from edc_ray.config.run import RunConfig
from edc_ray.runs import device_line as module
from edc_ray.runs.device_line import device_line

CUDA = torch.device("cuda")
GIB = 1 << 30


def config(**fields: object) -> RunConfig:
    return with_fields(load_recipe("digits"), {"precision": "tf32", **fields})


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70 * GIB, 79 * GIB))
    monkeypatch.setattr(module, "triton_kernels", object)


def test_a_cpu_is_told_with_its_precision_and_threads() -> None:
    line = device_line(config(precision="float32", **{"cluster.threads_per_unit": 2}), torch.device("cpu"))
    assert line == "device: cpu, float32, 2 threads for each unit"


def test_a_card_is_told_with_its_memory_and_what_is_captured(card: None) -> None:
    assert device_line(config(), CUDA) == (
        "device: NVIDIA H100, 70.0 of 79.0 GiB free, tf32; "
        "captured as CUDA graphs: recover, training steps, forwards"
    )


def test_without_its_kernels_recover_is_not_captured_and_the_line_says_why(
    card: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "triton_kernels", lambda: "no Triton")
    assert device_line(config(), CUDA).endswith(
        "captured as CUDA graphs: training steps, forwards; not recover: no Triton"
    )


@pytest.mark.parametrize(
    ("compile", "told"),
    [
        ("none", "nothing is captured (compile=none)"),
        ("graphs", "networks are captured as CUDA graphs (compile=graphs)"),
    ],
)
def test_what_compile_asks_for_is_told(card: None, compile: str, told: str) -> None:
    assert device_line(config(compile=compile), CUDA).endswith(f"tf32; {told}")


def test_the_driver_of_workers_on_cards_may_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_line(config(), CUDA).startswith("device: cuda, on the workers, tf32; captured as CUDA")
