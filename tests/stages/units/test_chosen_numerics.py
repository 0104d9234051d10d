"""What auto is, and what is refused before work starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edc_ray.errors import ConfigError
from edc_ray.stages.units import chosen_numerics
from edc_ray.stages.units.chosen_numerics import check_numerics, chosen_precision
from tests.stages.tiny_runs import context_of, run_until, tiny_config, tiny_context

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def test_auto_is_float32_but_on_cuda_what_the_published_programs_ran_with() -> None:
    config = tiny_config()
    assert config.precision == "auto"
    assert [chosen_precision(config, device, None) for device in (CPU, CUDA, MPS)] == [
        "float32",
        "tf32",
        "float32",
    ]
    assert chosen_precision(tiny_config(precision="bfloat16"), CUDA, None) == "bfloat16"


def test_auto_goes_on_with_the_precision_that_a_folder_began_with() -> None:
    began = tiny_config(precision="float32", device="cuda")
    assert chosen_precision(tiny_config(), CUDA, began) == "float32"
    assert chosen_precision(tiny_config(), CPU, tiny_config(precision="tf32", device="cuda")) == "float32"


def test_a_run_in_sixteen_bits_goes_on_without_being_told_again_and_refuses_another() -> None:
    context = tiny_context(precision="bfloat16")
    run_until(context, "squeeze")
    root = context.store.url.rsplit("/", 1)[0]
    assert context_of(tiny_config(root)).config.precision == "bfloat16"
    with pytest.raises(ConfigError, match=r"(?s)squeeze: .*precision='bfloat16'.*precision='float32'"):
        context_of(tiny_config(root, precision="float32"))


def test_a_folder_without_results_has_no_say() -> None:
    context = tiny_context(precision="bfloat16")
    assert context_of(tiny_config(context.store.url.rsplit("/", 1)[0])).config.precision == "float32"


@pytest.mark.parametrize(
    ("fields", "device", "message"),
    [
        ({"precision": "float16"}, MPS, "precision=float16 is for cpu and cuda"),
        ({"precision": "bfloat16"}, MPS, "precision=bfloat16 is for cpu and cuda"),
        ({"compile": "default"}, MPS, "compile=default is for cpu and cuda"),
        ({"compile": "graphs"}, CPU, "captures CUDA graphs"),
    ],
)
def test_what_a_device_cannot_do_is_refused(fields: Any, device: torch.device, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_numerics(tiny_config(**fields), device)


def test_a_gpu_too_old_for_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    for supported in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated, is_it=supported: is_it)
        if supported:
            check_numerics(tiny_config(precision="bfloat16"), CUDA)
            continue
        with pytest.raises(ConfigError, match=r"(?s)needs a GPU that computes in it.*Old GPU.*float16"):
            check_numerics(tiny_config(precision="bfloat16"), CUDA)


def test_without_a_cpp_compiler_compile_is_refused_when_the_run_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context_of(tiny_config(compile="default"))
    monkeypatch.setattr(chosen_numerics.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"(?s)needs a C\+\+ compiler.*install g\+\+.*compile=none"):
        context_of(tiny_config(compile="default"))
    context_of(tiny_config())
