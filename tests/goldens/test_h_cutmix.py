"""Boxes, pasting and blending of the official mixing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edc_ray.core.views.mixing import CutMixParams, MixUpParams
from tests.core.mixed_groups import mixed_group
from tests.goldens.files import TOLERANCE, load_golden
from tests.goldens.official_draws import official_cutmix, official_cutmix_box

FILE = "h_cutmix.npz"


def box_from_file(bbox: np.ndarray) -> tuple[int, int, int, int]:
    row0, column0, row1, column1 = (int(value) for value in bbox)
    return row0, row1, column0, column1


def shapes(prefix: str, suffix: str) -> list[str]:
    """What stands between the two in the names of the arrays, such as "sq"."""
    names = load_golden(FILE)
    return sorted(
        key.removeprefix(prefix).removesuffix(suffix)
        for key in names
        if key.startswith(prefix) and key.endswith(suffix)
    )


def test_boxes_drawn_from_numpy_equal_the_official_ones():
    table = load_golden(FILE)["bbox_table"]
    assert len(table)
    for seed, lam, height, width, *bbox in table:
        box = official_cutmix_box(lam, int(height), int(width), np.random.RandomState(int(seed)))
        assert box == box_from_file(np.array(bbox))


@pytest.mark.parametrize("shape", shapes("load_", "|out"))
def test_replayed_cutmix_equals_the_official_paste(shape):
    golden, case = load_golden(FILE), f"load_{shape}"
    images, expected = (torch.from_numpy(golden[f"{case}|{name}"]) for name in ("x", "out"))
    partner, box = torch.from_numpy(golden[f"{case}|index"]), box_from_file(golden[f"{case}|bbox"])
    assert torch.equal(mixed_group(images, CutMixParams(partner, box, 1.0)), expected)


@pytest.mark.parametrize("shape", shapes("mixup_", "|out"))
def test_mixup_equals_the_official_blend(shape):
    golden = load_golden(FILE)
    images = torch.from_numpy(golden[f"load_{shape}|x"])
    partner = torch.from_numpy(golden[f"load_{shape}|index"])
    lam, expected = float(golden[f"mixup_{shape}|lam"]), torch.from_numpy(golden[f"mixup_{shape}|out"])
    mixed = mixed_group(images, MixUpParams(partner, lam))
    torch.testing.assert_close(mixed, expected, **TOLERANCE["image"])


@pytest.mark.parametrize("saved", shapes("save_", "|bbox"))
def test_cutmix_drawn_from_the_official_seeds_equals_the_saved_one(saved):
    golden, case = load_golden(FILE), f"save_{saved}"
    images = torch.from_numpy(golden[case.rsplit("_", 1)[0].replace("save", "load") + "|x"])
    generator = torch.Generator().manual_seed(int(golden[f"{case}|torch_seed"]))
    rng = np.random.RandomState(int(golden[f"{case}|numpy_seed"]))
    batch, _, height, width = images.shape
    params = official_cutmix(batch, height, width, 1.0, generator, rng)
    assert params.partner.tolist() == golden[f"{case}|index"].tolist()
    assert params.lam == golden[f"{case}|lam"]
    assert params.box == box_from_file(golden[f"{case}|bbox"])
    assert torch.equal(mixed_group(images, params), torch.from_numpy(golden[f"{case}|out"]))
