"""Timing and options that all benchmarks share."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import harness
import pytest
import torch
from harness import (
    base_parser,
    chosen_numerics,
    in_chosen_precision,
    interleaved,
    now,
    print_medians,
    provenance,
    timed,
)

from edc_ray.config.load import load_recipe, with_fields
from edc_ray.stages.units.numerics import network_numerics

CPU = torch.device("cpu")


def test_variants_are_called_in_turns_after_one_untimed_call_of_each() -> None:
    calls: list[str] = []
    found = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, CPU)
    assert calls == ["a", "b"] * 3
    assert found["a"].minimum <= found["a"].median


def test_what_the_command_line_says_wins_over_the_short_form() -> None:
    parser = base_parser("x")
    parser.add_argument("--size", type=int, default=10)
    parser.set_short(size=2, repeats=1)
    options = parser.parse_args(["--short", "--repeats", "5"])
    assert (options.size, options.repeats) == (2, 5)
    parser = base_parser("x")
    assert parser.parse_args([]).repeats == 3


def test_the_clock_of_the_processor_does_not_count_sleep() -> None:
    base_parser("x").parse_args(["--clock", "cpu"])
    try:
        assert timed(lambda: time.sleep(0.1), CPU) < 0.05
    finally:
        base_parser("x").parse_args([])
    begun = now()
    time.sleep(0.01)
    assert now() - begun >= 0.01


def test_the_clock_of_the_processor_is_refused_for_another_device(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        base_parser("x").parse_args(["--clock", "cpu", "--device", "meta"])
    assert "does not see what another device does" in capsys.readouterr().err


def _parsed(*words: str, compiled: bool = True) -> argparse.Namespace:
    parser = base_parser("x")
    parser.add_numerics(compiled=compiled)
    return parser.parse_args(list(words))


@pytest.fixture
def _as_it_was() -> Iterator[None]:
    yield
    base_parser("x").parse_args([])


@pytest.mark.usefixtures("_as_it_was")
def test_the_record_tells_the_precision_and_the_compiler_that_a_run_would_take() -> None:
    assert _parsed().precision == "float32"
    facts = provenance(CPU)
    assert (facts["precision"], facts["compile"]) == ("float32", "none")
    _parsed("--precision", "bfloat16", "--compile", "default")
    facts = provenance(CPU)
    assert (facts["precision"], facts["compile"]) == ("bfloat16", "default")
    base_parser("x").parse_args([])
    assert "precision" not in provenance(CPU)


@pytest.mark.usefixtures("_as_it_was")
def test_a_choice_that_a_run_refuses_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parsed("--compile", "graphs")
    assert "compile=graphs captures CUDA graphs" in capsys.readouterr().err


@pytest.mark.usefixtures("_as_it_was")
def test_networks_of_ours_compute_as_the_stages_have_them() -> None:
    options = _parsed("--precision", "bfloat16", "--compile", "default")
    config = with_fields(load_recipe("digits"), {"precision": "bfloat16", "compile": "default"})
    for compiled in (True, False):
        found = chosen_numerics(options, compiled=compiled)
        stage = network_numerics(config, CPU, compiled=compiled)
        assert (found.dtype, found.compiler is None) == (stage.dtype, stage.compiler is None)
    assert _parsed(compiled=False).compile == "none"


@pytest.mark.usefixtures("_as_it_was")
def test_only_ours_may_round_to_tf32_and_only_where_that_is_the_precision() -> None:
    def allowed() -> bool:
        return torch.backends.cudnn.allow_tf32 and bool(torch.backends.cuda.matmul.allow_tf32)

    assert in_chosen_precision(allowed, _parsed("--precision", "tf32"))()
    assert not allowed()
    assert not in_chosen_precision(allowed, _parsed("--precision", "float32"))()


@pytest.mark.usefixtures("_as_it_was")
def test_graphs_are_captured_before_anything_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "check_numerics", lambda config, device: None)
    _parsed("--compile", "graphs")
    calls: list[str] = []
    interleaved({"a": lambda: calls.append("a")}, 2, CPU)
    assert len(calls) == 3 + 2


def test_medians_are_printed_of_the_variants_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_medians("stage", {"x": {"ours_median_s": 2.0}, "y": {}}, ("plain", "ours"))
    assert capsys.readouterr().out.split() == ["stage,", "medians", "ours", "s", "x", "2.000", "y", "-"]
