"""What the benchmarks count as the least work of a step."""

from __future__ import annotations

import pytest
import torch
from floor import Machine, Operation, chosen_operations_of, operations_of
from harness import base_parser
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

NETWORKS = {
    "grouped": nn.Conv2d(6, 8, 3, stride=2, groups=2),
    "dilated": nn.Conv2d(6, 8, 3, dilation=2),
    "transposed": nn.ConvTranspose2d(6, 8, 3, stride=2),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(6 * 11 * 13, 5)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_of_a_step_to_its_input_are_those_that_torch_counts(name: str) -> None:
    network = NETWORKS[name].requires_grad_(False)
    images = torch.randn(2, 6, 11, 13, requires_grad=True)

    def step() -> None:
        network(images).sum().backward()

    with FlopCounterMode(display=False) as counter:
        step()
    found = operations_of(step)
    assert len(found) == 2
    assert sum(each.flops for each in found) == counter.get_total_flops()


def test_zeros_of_the_padding_are_multiplied_by_nobody() -> None:
    images, padded = torch.randn(2, 3, 5, 5), nn.Conv2d(3, 4, 3, padding=1)
    (one,) = operations_of(lambda: padded(images))
    # Along an axis 5 places meet 3 weights, except that the first and the last meet 2.
    assert one.flops == 2 * 2 * 3 * 4 * (5 * 3 - 2) ** 2


def test_each_gradient_of_a_convolution_moves_its_two_operands_and_itself_once() -> None:
    network, images = nn.Conv2d(3, 4, 1, bias=False), torch.randn(2, 3, 5, 5, requires_grad=True)
    small, large, weight = 4 * 2 * 3 * 25, 4 * 2 * 4 * 25, 4 * 3 * 4
    moved = {
        each.name: each.bytes for each in operations_of(lambda: network(images).square().sum().backward())
    }
    assert set(moved.values()) == {small + large + weight}
    assert len(moved) == 3


def test_an_operation_takes_its_arithmetic_or_its_traffic_whichever_is_longer() -> None:
    machine = Machine(flops=10.0, bytes=2.0)
    assert machine.least_seconds([Operation("a", 20.0, 1.0), Operation("b", 1.0, 6.0)]) == 2.0 + 3.0


def test_operands_of_sixteen_bits_move_half_the_bytes_of_the_same_operations() -> None:
    parser = base_parser("x")
    parser.add_numerics()
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(36, 5))
    images = torch.randn(2, 3, 5, 5, requires_grad=True)

    def step() -> None:
        network(images).sum().backward()

    whole, half = (
        chosen_operations_of(step, parser.parse_args(["--precision", precision]))
        for precision in ("float32", "bfloat16")
    )
    base_parser("x").parse_args([])
    assert [each.flops for each in half] == [each.flops for each in whole]
    assert [2 * each.bytes for each in half] == [each.bytes for each in whole]
