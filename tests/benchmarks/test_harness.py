"""Timing and options that all benchmarks share."""

from __future__ import annotations

import time

import pytest
import torch
from harness import base_parser, interleaved, now, timed

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
