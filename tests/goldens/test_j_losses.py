"""Student losses and their gradients."""

from __future__ import annotations

import pytest
import torch

from edc_ray.core.students.student_loss import STUDENT_LOSSES, LossOptions
from tests.goldens.files import TOLERANCE, load_golden

FILE = "j_losses.npz"
OUR_NAMES = {"mse_gt": "mse_ce", "mse_gt_sam": "mse_ce_flat"}


@pytest.mark.parametrize(
    "case", sorted(key[: -len("|loss")] for key in load_golden(FILE) if key.endswith("|loss"))
)
def test_loss_and_gradient_equal_the_official_ones(case: str):
    golden = {name: torch.from_numpy(array) for name, array in load_golden(FILE).items()}
    name, *settings = case.split("|")
    temperature = float(next((s[1:] for s in settings if s.startswith("T")), 1))
    ce_weight = float(next(s[2:] for s in settings if s.startswith("ce")))
    student = golden["student_logits"].clone().requires_grad_()
    loss = STUDENT_LOSSES[OUR_NAMES.get(name, name)](
        student,
        golden["teacher_logits"],
        golden["target"],
        LossOptions(temperature=temperature, ce_weight=ce_weight, ema_logits=golden["ema_logits"]),
    )
    loss.backward()
    torch.testing.assert_close(loss.detach(), golden[f"{case}|loss"].reshape(()), **TOLERANCE["loss"])
    torch.testing.assert_close(student.grad, golden[f"{case}|grad"], **TOLERANCE["gradient"])
