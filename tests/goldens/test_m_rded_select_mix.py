"""RDED: the best crop of each image, the best of those, mosaics."""

from __future__ import annotations

import torch
from torch import nn

from edc_ray.core.views.crops import (
    assemble_mosaics,
    best_crop_of_each,
    cross_entropy_of_each,
    lowest_losses,
    pad_to_size,
)
from tests.goldens.files import TOLERANCE, load_golden

FILE = "m_rded_select_mix.npz"


def loaded() -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(array) for name, array in load_golden(FILE).items()}


def scorer(golden: dict[str, torch.Tensor]) -> nn.Module:
    state = {key.removeprefix("net|"): tensor for key, tensor in golden.items() if key.startswith("net|")}
    width, channels = state["0.weight"].shape[:2]
    num_classes, features = state["4.weight"].shape
    network = nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(features, num_classes),
    )
    network.load_state_dict(state)
    return network.eval()


def test_padding_equals_the_official_one():
    golden = loaded()
    assert torch.equal(pad_to_size(golden["crops"][:, 0], int(golden["input_size"])), golden["padded0"])


def test_selected_crops_and_their_mosaics_equal_the_official_ones():
    golden = loaded()
    crops, factor, ipc = golden["crops"], int(golden["factor"]), int(golden["ipc"])
    num_images, num_crops = crops.shape[:2]
    losses = cross_entropy_of_each(
        crops.flatten(0, 1),
        golden["labels"].repeat_interleave(num_crops),
        [scorer(golden)],
        int(golden["input_size"]),
    )
    best, best_losses = best_crop_of_each(crops, losses.reshape(num_images, num_crops))
    selected = best[lowest_losses(best_losses, ipc * factor**2)]
    assert torch.equal(selected, golden["selected"])
    mosaics = assemble_mosaics(
        selected, ipc, int(golden["input_size"]), factor=factor, order="rded", resize="nearest"
    )
    torch.testing.assert_close(mosaics, golden["mixed"], **TOLERANCE["image"])


def test_crops_of_another_size_are_resized_as_the_official_ones():
    golden = loaded()
    mosaics = assemble_mosaics(
        golden["resize_in"],
        int(golden["ipc"]),
        int(golden["input_size"]),
        factor=int(golden["factor"]),
        order="rded",
        resize="nearest",
    )
    torch.testing.assert_close(mosaics, golden["resize_mixed"], **TOLERANCE["image"])
