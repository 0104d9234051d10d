"""What the benchmarks of relabel, of a student and of the recover step make of their times."""

from __future__ import annotations

import argparse
import json
from typing import Any, cast

import bench_recover_step
import pytest
import report
import torch
from bench_recover_step import IN_TURN, measured_loop, total_of
from harness import Timing
from remote import Remote

SECONDS = {
    "plain": 3.0, "reference": 20.0, "reference_data": 10.0,
    "ours": 4.0, "ours_data": 1.0, "ours_network": 3.5,
}  # fmt: skip


class _Elsewhere:
    def run(self, name: str) -> None: ...

    def peak_megabytes(self, name: str) -> float:
        return 7.0


def test_an_epoch_has_images_in_a_second_and_the_share_of_its_loader(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def timings(variants: dict[str, Any], *more: Any) -> dict[str, Timing]:
        return {name: Timing(SECONDS[name], 2 * SECONDS[name]) for name in variants}

    monkeypatch.setattr(report, "interleaved", timings)
    monkeypatch.setattr(report, "peak_megabytes", lambda run, device: 9.0)
    options = argparse.Namespace(
        device=torch.device("cpu"), repeats=3, image_size=8, threads=1, json=True, batch_size=5, classes=2,
        rand_augment=False, picture_format="jpg", precision="float32", compile="none", observer="x",
    )  # fmt: skip
    variants = {name: int for name in SECONDS if not name.startswith("ours")}
    report.print_report("relabel", options, variants, cast(Remote, _Elsewhere()), images=100)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["images_per_s"] == 25.0
    assert (found["loader_share"], found["loader_added_share"]) == (0.25, 0.125)
    assert (found["ratio"], found["data_ratio"], found["ours_median_s"]) == (5.0, 10.0, 8.0)
    assert (found["peak_mb"], found["plain_peak_mb"]) == (7.0, 9.0)


def test_seconds_of_a_condensed_image_are_those_of_all_batches_of_the_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        bench_recover_step, "chosen_observer", lambda name, options: argparse.Namespace(name=name)
    )
    monkeypatch.setattr(bench_recover_step, "loop_of", lambda observers, options, rounds: observers)
    monkeypatch.setattr(bench_recover_step, "peak_megabytes", lambda run, device: 1.0)
    seconds = {"a": Timing(0.5, 1.0), "b": Timing(1.5, 2.0), IN_TURN: Timing(2.0, 3.0)}
    monkeypatch.setattr(bench_recover_step, "interleaved", lambda runs, repeats, device: seconds)
    options = argparse.Namespace(
        observers=["a", "b"], rounds=5, repeats=1, device=None, batch_size=8, ipc=3, classes=7, iterations=100
    )
    loop = measured_loop(options)
    assert loop["observers"]["b"] == {"iteration_ms": 300.0, "iteration_median_ms": 400.0, "peak_mb": 1.0}
    assert loop["batches"] == 3  # of 21 images
    assert loop["set_s"] == pytest.approx(3 * 100 * 0.2)
    assert loop["condensed_image_s"] == pytest.approx(60 / 21)


def test_the_sum_of_the_observers_has_the_share_of_the_sum() -> None:
    part: dict[str, float | None] = {
        "ours_s": 4.0,
        "ours_chosen_s": 2.0,
        "floor_s": 1.0,
        "chosen_floor_s": 1.0,
        "peak_mb": 3.0,
    }
    shares: dict[str, float | None] = {"floor_share": 0.9, "chosen_floor_share": 0.9}
    found = total_of([part | shares, part | shares | {"peak_mb": 5.0}])
    assert (found["floor_share"], found["chosen_floor_share"]) == (0.25, 0.5)
    assert (found["ours_s"], found["peak_mb"]) == (8.0, 5.0)
