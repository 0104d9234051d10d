"""Norm-balanced soft labels of G-VBSM."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edc_ray.core.labels.soft_labels import ensemble_logits
from edc_ray.core.views.mixing import CutMixParams
from tests.core.mixed_groups import mixed_group
from tests.goldens.files import TOLERANCE, load_golden
from tests.goldens.official_draws import official_cutmix

FILE = "p2_gvbsm_soft_labels.npz"


def test_lam_and_box_drawn_from_the_official_seed_equal_the_saved_ones():
    # Not the partners: before them torch made other draws, which the file does not name.
    golden = load_golden(FILE)
    batch, _, height, width = golden["images"].shape
    rng = np.random.RandomState(int(golden["numpy_seed"]))
    params = official_cutmix(batch, height, width, 1.0, torch.Generator(), rng)
    row0, row1, column0, column1 = params.box
    assert params.lam == golden["lam"]
    assert [row0, column0, row1, column1] == golden["bbox"].tolist()


def test_norm_balanced_labels_of_mixed_images_equal_the_official_ones():
    golden = {name: torch.as_tensor(array) for name, array in load_golden(FILE).items()}
    row0, column0, row1, column1 = golden["bbox"].tolist()
    params = CutMixParams(golden["mix_index"], (row0, row1, column0, column1), float(golden["lam"]))
    features = mixed_group(golden["images"], params).flatten(1)
    num_observers = sum(name.endswith("|1.weight") for name in golden)
    logits = [
        nn.functional.linear(features, golden[f"net{i}|1.weight"], golden[f"net{i}|1.bias"])
        for i in range(num_observers)
    ]
    labels = ensemble_logits(logits, "frobenius")
    torch.testing.assert_close(labels, golden["soft_label"], **TOLERANCE["loss"])
