"""Averaged parameters along a run, and evaluating with them."""

from __future__ import annotations

import torch
from torch import nn

from edc_ray.core.students.ema import EmaParameters
from tests.goldens.files import TOLERANCE, load_golden

FILE = "k_ema_model.npz"


def part(prefix: str) -> dict[str, torch.Tensor]:
    items = load_golden(FILE).items()
    return {
        key.removeprefix(prefix + "|"): torch.as_tensor(a) for key, a in items if key.startswith(prefix + "|")
    }


def averaged_network() -> tuple[nn.Module, EmaParameters, int]:
    """The official run replayed: every live state loaded in turn, averaged after each."""
    initial = part("init")
    width, num_inputs = initial["0.weight"].shape
    num_outputs = initial["2.weight"].shape[0]
    network = nn.Sequential(
        nn.Linear(num_inputs, width), nn.BatchNorm1d(width), nn.Linear(width, num_outputs)
    )
    network.load_state_dict(initial)
    ema = EmaParameters(network, float(load_golden(FILE)["decay"]))
    steps = 0
    while live := part(f"live{steps}"):
        network.load_state_dict(live, strict=False)
        ema.update()
        expected = part(f"ema{steps}")
        for name, average in ema.average.items():
            torch.testing.assert_close(average, expected[name], **TOLERANCE["parameter"])
        steps += 1
    return network, ema, steps


def test_averages_after_each_step_equal_the_official_ones():
    _, _, steps = averaged_network()
    assert steps > 1


def test_swapping_puts_averages_beside_live_buffers_and_back():
    network, ema, _ = averaged_network()
    with ema.swapped():
        during = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for state, prefix in ((during, "live_after_swap"), (network.state_dict(), "live_after_unswap")):
        expected = part(prefix)
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, expected[name], **TOLERANCE["parameter"])


def test_buffers_beside_the_averages_of_the_official_copy_stay_those_of_the_start():
    network, ema, steps = averaged_network()
    with ema.swapped(buffers="initial"):
        means = {
            key: value.clone() for key, value in network.state_dict().items() if key.endswith("running_mean")
        }
    assert means
    for step in range(steps):
        for name, mean in means.items():
            torch.testing.assert_close(mean, part(f"ema{step}")[name], **TOLERANCE["parameter"])
