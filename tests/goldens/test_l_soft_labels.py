"""Soft labels: mean logits of mixed images, in both precisions."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edc_ray.core.labels.codec import Fp16Codec
from edc_ray.core.labels.soft_labels import ensemble_logits
from edc_ray.core.views.mixing import CutMixParams
from edc_ray.sharing.formats.official_labels import OfficialBatch, batch_to_bytes
from tests.core.mixed_groups import mixed_group
from tests.goldens.files import TOLERANCE, load_golden
from tests.goldens.official_draws import official_cutmix, official_mixup

FILE = "l_soft_labels.npz"


def observers(golden: dict[str, Any], source: str) -> list[nn.Module]:
    found = []
    while f"{source}|net{len(found)}|0.weight" in golden:
        prefix = f"{source}|net{len(found)}|"
        state = {
            key.removeprefix(prefix): torch.from_numpy(a)
            for key, a in golden.items()
            if key.startswith(prefix)
        }
        width, channels = state["0.weight"].shape[:2]
        num_classes, features = state["4.weight"].shape
        network = nn.Sequential(
            nn.Conv2d(channels, width, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(features, num_classes),
        )
        network.load_state_dict(state)
        found.append(network.eval().requires_grad_(False))
    return found


def cases() -> list[str]:
    return sorted(key.removesuffix("|soft_label") for key in load_golden(FILE) if key.endswith("|soft_label"))


@pytest.mark.parametrize("case", cases())
def test_labels_of_views_mixed_from_the_official_seeds_equal_the_official_ones(case):
    golden = load_golden(FILE)
    source, kind, _ = case.split("|")
    images = torch.from_numpy(golden[f"{source}|images"])
    batch, _, height, width = images.shape
    generator = torch.Generator().manual_seed(int(golden["torch_seed"]))
    rng = np.random.RandomState(int(golden["numpy_seed"]))
    if kind == "cutmix":
        params = official_cutmix(batch, height, width, 1.0, generator, rng)
    else:
        params = official_mixup(batch, 0.8, generator, rng)
    assert params.partner.tolist() == golden[f"{case}|mix_index"].tolist()
    assert params.lam == golden[f"{case}|lam"]
    if isinstance(params, CutMixParams):
        row0, row1, column0, column1 = params.box
        assert [row0, column0, row1, column1] == golden[f"{case}|bbox"].tolist()
    # The CIFAR programs label the un-mixed images under MixUp; see the deviations of the relabel stage.
    labelled = images if (kind == "mixup" and source != "in1k") else mixed_group(images, params)
    labels = ensemble_logits([network(labelled) for network in observers(golden, source)])
    expected = golden[f"{case}|soft_label"]
    if expected.dtype == np.float16:
        stored = Fp16Codec().encode(labels.numpy()).columns["logits"]
        ulp = np.spacing(np.abs(expected)).astype(np.float64)
        np.testing.assert_allclose(stored / ulp, expected / ulp, **TOLERANCE["fp16_ulp"])
    else:
        np.testing.assert_allclose(labels.numpy(), expected, **TOLERANCE["loss"])


@pytest.mark.parametrize("case", cases())
def test_an_exported_batch_file_has_as_many_items_as_the_official_one(case):
    golden = load_golden(FILE)
    logits, partner = (torch.from_numpy(golden[f"{case}|{name}"]) for name in ("soft_label", "mix_index"))
    size = len(partner)
    batch = OfficialBatch(
        coordinates=torch.zeros(size, 4),
        flip=torch.zeros(size, dtype=torch.bool),
        partner=partner,
        lam=float(golden[f"{case}|lam"]),
        box=None,  # its place in the list is kept
        logits=logits,
        index=torch.arange(size),
    )
    layout = "imagenet" if case.startswith("in1k|") else "small"
    items = torch.load(io.BytesIO(batch_to_bytes(batch, layout=layout)), weights_only=True)
    assert len(items) == golden[f"{case}|n_items"]
