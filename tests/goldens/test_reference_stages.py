"""The straightforward stages that the benchmarks measure against make what the official programs make."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.reference.crop_mosaics import best_crops, losses_of_crops, mosaics_of
from benchmarks.reference.layer_matching import Quantities
from benchmarks.reference.statistics_pass import LayerSums
from tests.goldens import test_m2_edc_init as edc
from tests.goldens import test_m_rded_select_mix as rded
from tests.goldens.files import TOLERANCE, golden_names, load_golden

STRAIGHT = ("dd_mean", "dd_var", "patch_mean", "patch_var")
SWAPPED = ("dd_mean", "dd_var", "patch_var", "patch_mean")


@pytest.mark.parametrize("name", golden_names("d_stat_accumulation_*.npz", ("cifar10", "in10")))
def test_reference_statistics_equal_the_official_files(name: str) -> None:
    data = load_golden(name)
    sizes, channels = data["batch_sizes"].tolist(), data["x"].shape[1]
    layers = {"bn": nn.BatchNorm2d(channels).eval(), "conv": nn.Conv2d(channels, 1, 1)}
    sums = {kind: LayerSums(each, int(data["patch_size"]), sum(sizes)) for kind, each in layers.items()}
    parts = zip(torch.tensor(data["x"]).split(sizes), torch.tensor(data["labels"]).split(sizes), strict=True)
    with torch.no_grad():
        for images, labels in parts:
            for kind, layer in layers.items():
                sums[kind].labels = labels
                layer(images)
    found: dict[str, tuple[Quantities, tuple[str, ...], int | None]] = {
        "conv_global": (sums["conv"].whole, STRAIGHT, None)
    }
    for label in np.unique(data["labels"]).tolist():
        found[f"bn_class {label}"] = (sums["bn"].class_quantities(label), STRAIGHT[:2], label)
        found[f"conv_class {label}"] = (sums["conv"].class_quantities(label), SWAPPED, label)
    for where, (quantities, keys, label) in found.items():
        for key, ours in zip(keys, quantities, strict=True):
            theirs = data[f"file_{where.split()[0]}_running_{key}"]
            theirs = theirs if label is None else theirs[label]
            np.testing.assert_allclose(ours, theirs, **TOLERANCE["statistic"], err_msg=f"{where} {key}")


def test_reference_mosaics_of_best_crops_equal_the_official_ones() -> None:
    golden = rded.loaded()
    factor, ipc, size = int(golden["factor"]), int(golden["ipc"]), int(golden["input_size"])
    (label,) = golden["labels"].unique().tolist()
    ranked = best_crops(golden["crops"], label, [rded.scorer(golden)], size)[: ipc * factor**2]
    assert torch.equal(torch.stack(ranked), golden["selected"])
    mosaics = torch.stack(mosaics_of(ranked, ipc, size, factor))
    torch.testing.assert_close(mosaics, golden["mixed"], **TOLERANCE["image"])


def test_reference_losses_rank_images_as_the_official_preselection() -> None:
    golden, observers = edc.loaded(), edc.observers(edc.loaded())
    images, expected = golden["preselect_images"], golden["preselect_indices_sorted_by_loss"]
    size = images.shape[-1]
    for label, order in enumerate(expected.tolist()):
        members = (golden["preselect_labels"] == label).nonzero().flatten().tolist()
        losses = {one: losses_of_crops(images[one : one + 1], label, observers, size)[0] for one in members}
        assert sorted(members, key=losses.__getitem__)[: len(order)] == order
