from __future__ import annotations

import torch

from edc_ray.core.recover.flatness import flatness_loss, update_average


def test_flatness_loss_is_the_divergence_from_the_average_over_images_and_classes() -> None:
    logits = torch.randn(3, 5, requires_grad=True)
    average = torch.randn(3, 5, requires_grad=True)
    p, q = (average / 4).softmax(1), (logits / 4).softmax(1)
    loss = flatness_loss(logits, average, 4.0)
    torch.testing.assert_close(loss, (p * (p.log() - q.log())).sum() / 15)
    loss.backward()
    assert average.grad is None


def test_flatness_loss_of_equal_logits_is_zero() -> None:
    logits = torch.randn(3, 5)
    torch.testing.assert_close(flatness_loss(logits, logits, 4.0), torch.zeros(()), rtol=0, atol=1e-7)


def test_average_gives_history_the_weight_of_the_momentum() -> None:
    updated = update_average(torch.ones(2), torch.zeros(2), 0.99)
    torch.testing.assert_close(updated, torch.full((2,), 0.99))
