from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from edc_ray.core.students.ema import EmaParameters


def network() -> Any:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def shift(module: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by)


def test_an_average_moves_by_its_share_towards_the_live_values():
    live = network()
    start = live[0].weight.detach().clone()
    ema = EmaParameters(live, 0.75)
    shift(live, 1.0)
    ema.update()
    torch.testing.assert_close(ema.average["0.weight"], start + 0.25)


def test_live_values_are_back_after_an_error_inside_the_swap():
    live = network()
    ema = EmaParameters(live, 0.5)
    shift(live, 1.0)
    before = {name: tensor.clone() for name, tensor in live.state_dict().items()}
    with pytest.raises(RuntimeError, match="shapes"), ema.swapped():
        live(torch.zeros(2, 9))
    assert all(torch.equal(tensor, before[name]) for name, tensor in live.state_dict().items())


@pytest.mark.parametrize(("buffers", "shown"), [("live", 2.0), ("averaged", 1.0), ("initial", 0.0)])
def test_live_averaged_or_initial_buffers_stand_beside_the_averages(buffers, shown):
    live = network()
    ema = EmaParameters(live, 0.5, buffers=buffers)
    live[1].running_mean.fill_(2.0)
    ema.update()
    with ema.swapped():
        assert live[1].running_mean.tolist() == [shown] * 3
    assert live[1].running_mean.tolist() == [2.0] * 3


def test_one_use_may_ask_for_other_buffers_than_the_rest():
    live = network()
    ema = EmaParameters(live, 0.5)
    live[1].running_mean.fill_(2.0)
    with ema.swapped(buffers="initial"):
        assert live[1].running_mean.tolist() == [0.0] * 3
    with pytest.raises(ValueError, match="not averaged"), ema.swapped(buffers="averaged"):
        pass


def test_a_decay_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="decay"):
        EmaParameters(network(), 1.5)
