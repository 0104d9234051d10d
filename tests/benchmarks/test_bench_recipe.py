from __future__ import annotations

import json
from pathlib import Path

import bench_recipe
import numpy as np
import pytest
from made_images import images, sizes


def test_made_images_have_the_sizes_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "counts", {"train": 30, "val": 20})
    pixels, labels, names = images("train")
    assert (pixels.shape, pixels.dtype, names) == ((30, 32, 32, 3), np.uint8, None)
    assert sorted(set(labels.tolist())) == list(range(10))
    assert len(np.unique(pixels.reshape(30, -1), axis=0)) == 30
    assert not np.array_equal(pixels[:20], images("val")[0])


def test_a_recipe_is_timed_stage_by_stage_and_goes_on_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench_recipe.py", "--short", "--threads", "1", "--folder", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    for _ in range(2):
        bench_recipe.main()
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    first, again = objects[:6], objects[6:]
    assert [one["complete"] for one in first] == [False] * 5 + [True]
    assert list(first[-1]["stages"]) == ["squeeze", "statistics", "init", "recover", "relabel", "evaluate"]
    assert first[-1]["stages"]["squeeze"]["images"] == 400
    assert again[0]["stages"] == again[-1]["stages"] == first[-1]["stages"]
