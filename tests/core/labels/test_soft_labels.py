from __future__ import annotations

import pytest
import torch

from edc_ray.core.labels.soft_labels import ensemble_logits


def logits_of(observers: int) -> torch.Tensor:
    return torch.randn(observers, 6, 5, generator=torch.Generator().manual_seed(0))


def test_labels_are_the_mean_of_the_observers_and_a_list_equals_a_stack():
    logits = logits_of(3)
    torch.testing.assert_close(ensemble_logits(logits), logits.sum(0) / 3)
    assert torch.equal(ensemble_logits(list(logits)), ensemble_logits(logits))


def test_balanced_labels_do_not_change_with_the_share_of_an_observer():
    logits = logits_of(2)
    louder = torch.stack([logits[0] * 50, logits[1]])
    plain, balanced = (ensemble_logits(each, "frobenius") for each in (logits, louder))
    torch.testing.assert_close(balanced / balanced.norm(), plain / plain.norm())


def test_an_observer_of_zeros_gives_no_nan():
    logits = logits_of(2)
    logits[0] = 0
    assert ensemble_logits(logits, "frobenius").isfinite().all()


def test_no_observer_and_an_unknown_norm_are_refused():
    with pytest.raises(ValueError, match="at least one observer"):
        ensemble_logits([])
    with pytest.raises(ValueError, match="norm must be"):
        ensemble_logits(logits_of(1), "max")  # type: ignore[arg-type]
