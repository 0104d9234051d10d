"""A part of a condensed set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edc_ray.artifacts.storage.store import open_store
from edc_ray.artifacts.tables.schema import ImageRows
from edc_ray.data.condensed.images import CondensedImages, part_of_images
from edc_ray.errors import ConfigError
from tests.data.written_sets import NAMES, SLOTS, write_images

CLASSES = ("ant", "bee", "cat", "dog")
IPC = 3


def rows() -> ImageRows:
    """Each pixel tells its class and ipc id; in an order of no meaning."""
    order = np.random.default_rng(0).permutation(len(CLASSES) * IPC)
    labels, ipc_ids = np.divmod(order, IPC)
    images = (10 * labels + ipc_ids).astype(np.uint8)[:, None, None, None]
    return ImageRows(images, labels, ipc_ids, CLASSES)


@given(st.permutations(CLASSES), st.integers(1, len(CLASSES)), st.integers(1, IPC))
def test_a_part_has_the_classes_asked_for_under_labels_of_their_own(
    order: list[str], count: int, ipc: int
) -> None:
    part = part_of_images(rows(), ipc, order[:count])
    assert part.class_names == tuple(order[:count])
    found = list(zip(part.labels.tolist(), part.ipc_ids.tolist(), strict=True))
    assert found == [(label, ipc_id) for label in range(count) for ipc_id in range(ipc)]
    told = [10 * CLASSES.index(order[label]) + ipc_id for label, ipc_id in found]
    assert part.images.ravel().tolist() == told


def test_all_classes_and_images_are_the_set_by_label_and_ipc_id() -> None:
    part, whole = part_of_images(rows(), None, None), rows()
    order = np.lexsort((whole.ipc_ids, whole.labels))
    np.testing.assert_array_equal(part.images, whole.images[order])


@pytest.mark.parametrize(
    ("ipc", "classes", "words"),
    [
        (None, ["ant", "bea"], r"a set has no class 'bea'(.|\n)*did you mean 'bee'"),
        (None, ["ant", "ant"], "each class once"),
        (None, [], "each class once"),
        (4, None, r"a set has fewer images(.|\n)*ipc=4(.|\n)*1 to 3"),
        (0, None, r"a set has fewer images(.|\n)*ipc=0(.|\n)*1 to 3"),
    ],
)
def test_a_part_that_there_is_not_is_refused(ipc: int | None, classes: list[str] | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        part_of_images(rows(), ipc, classes, url="a set")


def test_a_view_of_a_stored_set_writes_nothing() -> None:
    store = open_store("memory://parts/run")
    images = write_images(store)
    before = store.list()
    view = CondensedImages(store.url, ipc=1, classes=[NAMES[1]])
    assert view.class_names == (NAMES[1],)
    np.testing.assert_array_equal(view.images, images[[SLOTS.index((1, 0))]])
    assert (view.labels.tolist(), view.ipc_ids.tolist()) == ([0], [0])
    assert store.list() == before
