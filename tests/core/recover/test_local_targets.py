from __future__ import annotations

import torch

from edc_ray.core.recover.local_targets import local_class_targets
from tests.core.one_layer import layer_statistics
from tests.core.tiny_observers import make_observer, random_images


def test_local_targets_do_not_depend_on_the_chunks_and_are_the_statistics_of_one_batch() -> None:
    observer, images = make_observer("a", 1), random_images(7, 0)
    whole = local_class_targets([observer], images, 4)["a"]
    parts = local_class_targets([observer], images, 4, chunk=3)["a"]
    stem = layer_statistics(images, 4)
    for left, right, expected in zip(
        whole["0"].quantities, parts["0"].quantities, stem.quantities, strict=True
    ):
        torch.testing.assert_close(left, expected)
        torch.testing.assert_close(right, expected)
    assert whole["1"].patch_mean is None
    torch.testing.assert_close(whole["5"].channel_variance, parts["5"].channel_variance)
