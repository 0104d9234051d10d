"""The straightforward views that the benchmarks measure against are the official ones, and ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.reference.label_batches import Kind, Recipe, cut, paste, stored_batches, write_pictures
from edc_ray.core.seeding import draws
from edc_ray.core.views.views import ViewSettings, draw_epoch_views, render_views
from tests.goldens.files import TOLERANCE, load_golden

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("shape", ["sq"])
def test_pasting_equals_the_official_one(shape: str) -> None:
    golden, case = load_golden("h_cutmix.npz"), f"load_{shape}"
    images, partner = (torch.from_numpy(golden[f"{case}|{name}"].copy()) for name in ("x", "index"))
    row0, column0, row1, column1 = (int(edge) for edge in golden[f"{case}|bbox"])
    made = paste(images, partner, (row0, row1, column0, column1))
    assert torch.equal(made, torch.from_numpy(golden[f"{case}|out"]))


@pytest.mark.parametrize(("kind", "tolerance"), [("pil", "grey_level"), ("tensor", "image")])
def test_views_replayed_from_files_equal_ours(tmp_path: Path, kind: Kind, tolerance: str) -> None:
    images = draws(0, "images").integers(256, 6, 3, 32, 32).astype(np.uint8)
    views = draw_epoch_views(3, 0, [(0, i) for i in range(6)], 32, ViewSettings(mix_group=3))
    paths = write_pictures(tmp_path / "pictures", images, ".png")
    boxes = torch.stack([views.crops.top, views.crops.left, views.crops.height, views.crops.width], dim=1)
    (tmp_path / "labels").mkdir()
    for number in range(2):
        rows = np.arange(3) + 3 * number
        partner = torch.from_numpy(views.partner[rows] - 3 * number)
        torch.save(
            [boxes[rows], views.crops.flip[rows], partner, float(views.lam[rows[0]]),
             views.box[rows[0]].tolist(), torch.from_numpy(views.image[rows]), torch.zeros(3, 2)],
            tmp_path / "labels" / f"batch_{number}.tar",
        )  # fmt: skip
    recipe = Recipe(kind, MEAN, STD)
    replayed = torch.cat([batch[0] for batch in stored_batches(paths, recipe, tmp_path / "labels")])
    fetched = stored_batches([f"file://{path}" for path in paths], recipe, f"file://{tmp_path}/labels")
    assert torch.equal(torch.cat([batch[0] for batch in fetched]), replayed)
    ours = render_views(torch.from_numpy(images), views, np.arange(6), mean=MEAN, std=STD)
    pixels = [each * torch.tensor(STD).view(3, 1, 1) for each in (replayed, ours)]
    torch.testing.assert_close(*pixels, **TOLERANCE[tolerance])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kind", ["pil", "tensor"])
def test_a_view_of_the_goldens_picture_is_cut_like_the_official_one(kind: Kind, flip: bool) -> None:
    golden = load_golden("i_crop_replay.npz")
    picture = Image.fromarray(golden["image_uint8_hwc"])
    size = int(golden["out_size"])
    for number, box in enumerate(golden["boxes_ijhw"].tolist()):
        name = f"{'cifar_pil' if kind == 'pil' else 'imagenet'}_box{number}_flip{int(flip)}"
        made = cut(picture, box, flip, Recipe(kind, MEAN, STD), size)
        expected = torch.from_numpy(golden[name])
        spread = torch.tensor(STD).view(3, 1, 1)
        torch.testing.assert_close(
            made * spread, expected * spread, **TOLERANCE["grey_level" if kind == "pil" else "image"]
        )
