"""EDC's initial images: pre-selection and mosaics."""

from __future__ import annotations

import torch
from torch import nn

from edc_ray.core.views.crops import (
    assemble_mosaics,
    cross_entropy_of_each,
    lowest_losses,
)
from tests.goldens.files import TOLERANCE, load_golden

FILE = "m2_edc_init.npz"


def loaded() -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(array) for name, array in load_golden(FILE).items()}


def observers(golden: dict[str, torch.Tensor]) -> list[nn.Module]:
    found = []
    while f"net{len(found)}|1.weight" in golden:
        weight, bias = (golden[f"net{len(found)}|1.{name}"] for name in ("weight", "bias"))
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
        found.append(nn.Sequential(nn.Flatten(), linear).eval())
    return found


def test_preselected_images_equal_the_official_ones():
    golden = loaded()
    expected = golden["preselect_indices_sorted_by_loss"]
    labels = golden["preselect_labels"]
    losses = cross_entropy_of_each(golden["preselect_images"], labels, observers(golden))
    for label, indices in enumerate(expected):
        members = (labels == label).nonzero().flatten()
        assert members[lowest_losses(losses[members], len(indices))].tolist() == indices.tolist()


def test_mosaics_of_the_best_candidates_equal_the_official_ones():
    golden = loaded()
    ipc, size = int(golden["ipc"]), golden["out_uint8"].shape[-1]
    sample = golden["out_float_sample"]
    stride = size // sample.shape[-1]
    for index, losses in enumerate(golden["cand_loss"]):
        patches = golden["cand_patches_uint8"][index].permute(0, 3, 1, 2)
        mosaics = assemble_mosaics(patches[lowest_losses(losses, 4 * ipc)], ipc, size, order="edc")
        assert torch.equal(mosaics, golden["out_uint8"][index])
        torch.testing.assert_close(
            mosaics[..., ::stride, ::stride] / 255, sample[index], **TOLERANCE["image"]
        )
