"""Learning rates of recover and of the students, epoch by epoch."""

from __future__ import annotations

import numpy as np

from edc_ray.core.schedules import SCHEDULES, adaptive_factor, recover_cosine
from tests.goldens.files import TOLERANCE, load_golden

OURS = {"cos": "cos", "cos2": "cos2_official", "linear": "linear", "multisteplr": "multistep"}
STUDENT_BASE = 0.001


def test_recover_learning_rates_equal_the_official_ones() -> None:
    data = load_golden("f_lr_schedules.npz")
    keys = [key for key in data if key.startswith("recover")]
    assert keys
    for key in keys:
        kind, base, count = key.split("|")
        warmup = int(kind.removeprefix("recover").removeprefix("_warmup") or 0)
        base, count = float(base.removeprefix("base")), int(count.removeprefix("iters"))
        rising = [base * (i + 1) / warmup for i in range(warmup)]
        ours = rising + [base * recover_cosine(i, count - warmup) for i in range(count - warmup)]
        np.testing.assert_allclose(ours, data[key], **TOLERANCE["schedule"], err_msg=key)


def test_student_learning_rates_equal_the_official_ones() -> None:
    data = load_golden("f_lr_schedules.npz")
    keys = [key for key in data if key.startswith("eval")]
    assert keys
    for key in keys:
        _, program, kind, epochs, smoothing = key.split("|")
        # The programs that train on stored labels overwrite their cosine with the straight line.
        overwritten = program in ("in1k", "in10") and kind == "cos"
        schedule = SCHEDULES["linear" if overwritten else OURS[kind]]
        num_epochs, factor = int(epochs.removeprefix("E")), float(smoothing.removeprefix("st"))
        ours = [STUDENT_BASE * schedule(epoch, num_epochs, factor) for epoch in range(num_epochs)]
        np.testing.assert_allclose(ours, data[key], **TOLERANCE["schedule"], err_msg=key)


def test_adaptive_learning_rates_equal_the_official_ones_of_the_decayed_group() -> None:
    data = load_golden("f_lr_schedules.npz")
    losses = data["alrs|losses"].tolist()
    ours = [adaptive_factor(losses[: count + 1]) for count in range(len(losses))]
    unmoved = data["alrs|lr_group1_after_step"]
    assert len(ours) == len(unmoved) > 0
    assert set(unmoved) == {unmoved[0]}
    np.testing.assert_allclose(
        unmoved[0] * np.array(ours), data["alrs|lr_group0_after_step"], **TOLERANCE["schedule"]
    )
