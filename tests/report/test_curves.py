from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboardX.proto import event_pb2

from edc_ray.report.curves import mean_curves, plot_curves, unit_curves, write_tensorboard


def done(unit: str, stage: str = "recover", **curves: list[float]) -> dict[str, Any]:
    named = {name.replace("__", "/"): curve for name, curve in curves.items()}
    return {"event": "unit_done", "stage": stage, "unit": unit, "curves": named}


EVENTS = [
    {"event": "stage_started", "stage": "recover"},
    done("a", loss=[4.0, 2.0], matching_loss__r18=[1.0, 0.5], matching_loss__convnet=[3.0]),
    done("b", loss=[2.0, 1.0, 0.5], matching_loss__r18=[3.0], learning_rate=[0.05, 0.0]),
    {"event": "unit_failed", "stage": "recover", "unit": "c", "error": "NumericalError"},
    done("r18", stage="squeeze", accuracy=[10.0, 90.0]),
    {"event": "unit_done", "stage": "relabel", "unit": "epochs-0", "curves": {}},
]


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    (file,) = folder.glob("events.out.tfevents.*")
    data, scalars = file.read_bytes(), {}
    while data:  # length u64, checksum u32, event, checksum u32
        length = int.from_bytes(data[:8], "little")
        event = event_pb2.Event.FromString(data[12 : 12 + length])  # pyright: ignore[reportAttributeAccessIssue]
        data = data[16 + length :]
        for value in event.summary.value:
            scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
    return scalars


def test_a_unit_that_was_made_again_counts_once() -> None:
    assert unit_curves([done("a", loss=[9.0]), done("a", loss=[1.0])], "recover") == {"a": {"loss": [1.0]}}


def test_the_mean_over_units_takes_each_point_from_the_units_that_have_it() -> None:
    assert mean_curves(unit_curves(EVENTS, "recover").values()) == {
        "loss": [3.0, 1.5, 0.5],
        "matching_loss/r18": [2.0, 0.5],
        "matching_loss/convnet": [3.0],
        "learning_rate": [0.05, 0.0],
    }


def test_curves_are_drawn_as_a_png_that_is_not_blank() -> None:
    png = plot_curves(EVENTS)
    assert png is not None
    page = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert page.shape[0] > 200
    assert len(np.unique(page.reshape(-1, 3), axis=0)) > 50


def test_a_stage_without_curves_has_no_picture() -> None:
    assert plot_curves(EVENTS, "relabel") is None


def test_tensorboard_gets_means_of_recover_and_every_training_of_squeeze(tmp_path: Path) -> None:
    write_tensorboard(EVENTS, tmp_path)
    recover = read_scalars(tmp_path / "recover")
    assert recover["loss"] == [(0, 3.0), (1, 1.5), (2, 0.5)]
    assert recover["matching_loss/r18"] == [(0, 2.0), (1, 0.5)]
    assert read_scalars(tmp_path / "squeeze" / "r18") == {"accuracy": [(0, 10.0), (1, 90.0)]}
    assert not (tmp_path / "relabel").exists()


def test_writing_tensorboard_again_replaces_the_files(tmp_path: Path) -> None:
    write_tensorboard(EVENTS, tmp_path)
    write_tensorboard([done("a", loss=[7.0])], tmp_path)
    assert read_scalars(tmp_path / "recover") == {"loss": [(0, 7.0)]}
