from __future__ import annotations

import torch

from edc_ray.core.recover.objective import weighted_objective


def test_objective_adds_the_weighted_terms_that_are_given() -> None:
    one, two = torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    weights = {"cross_entropy": 1.0, "matching": 0.1, "flatness": 5.0}
    total = weighted_objective({"cross_entropy": one, "matching": two}, weights)  # pyright: ignore
    torch.testing.assert_close(total, torch.tensor(1.2))
    assert torch.autograd.grad(total, two)[0].item() == torch.tensor(0.1).item()


def test_objective_of_one_term_is_that_term() -> None:
    term = torch.tensor(3.0)
    assert weighted_objective({"cross_entropy": term}, {"cross_entropy": 1.0}) is term
