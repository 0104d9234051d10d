from __future__ import annotations

import pytest
import torch

from edc_ray.core.students.student_loss import NEEDS_EMA_LOGITS, STUDENT_LOSSES, LossOptions, mse_ce_flat


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher, average = (torch.randn(6, 5, generator=generator) for _ in range(3))
    return student, teacher, torch.tensor([0, 1, 2, 3, 4, 0]), average


@pytest.mark.parametrize("name", sorted(STUDENT_LOSSES))
def test_every_loss_takes_the_same_arguments_and_has_a_gradient(name):
    student, teacher, labels, average = inputs()
    student.requires_grad_()
    options = LossOptions(temperature=4.0, ce_weight=0.1, ema_logits=average)
    loss = STUDENT_LOSSES[name](student, teacher, labels, options)
    assert loss.shape == ()
    loss.backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("name", ["kl", "dist", "mse_ce"])
def test_a_student_that_equals_its_teacher_has_no_loss(name):
    student, _, labels, _ = inputs()
    loss = STUDENT_LOSSES[name](student, student.clone(), labels, LossOptions(temperature=1.0, ce_weight=0.0))
    assert abs(float(loss)) < 1e-3 if name == "dist" else abs(float(loss)) < 1e-6


def test_hard_label_cross_entropy_ignores_the_teacher():
    student, teacher, labels, _ = inputs()
    losses = [
        STUDENT_LOSSES["ce"](student, t, labels, LossOptions(temperature=1.0, ce_weight=0.0))
        for t in (teacher, student)
    ]
    assert losses[0] == losses[1] == torch.nn.functional.cross_entropy(student, labels)


def test_the_averaged_student_gets_no_gradient():
    student, teacher, labels, average = inputs()
    average.requires_grad_()
    options = LossOptions(temperature=1.0, ce_weight=0.1, ema_logits=average)
    loss = mse_ce_flat(student.requires_grad_(), teacher, labels, options)
    loss.backward()
    assert average.grad is None


@pytest.mark.parametrize("name", sorted(NEEDS_EMA_LOGITS))
def test_a_flatness_aware_loss_without_averaged_logits_is_refused(name):
    student, teacher, labels, _ = inputs()
    with pytest.raises(ValueError, match="ema_logits"):
        STUDENT_LOSSES[name](student, teacher, labels, LossOptions(temperature=1.0, ce_weight=0.1))


def test_a_misspelt_or_missing_option_is_an_error():
    with pytest.raises(TypeError, match="temperatur"):
        LossOptions(temperatur=4.0, ce_weight=0.1)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="ce_weight"):
        LossOptions(temperature=4.0)  # pyright: ignore[reportCallIssue]
