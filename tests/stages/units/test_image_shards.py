"""Shards of images and the hashes of what a reader decodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.schema import read_images_table
from edc_ray.data.condensed.images import CondensedImages
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.image_shards import images_output, pixel_hash, read_stage_images, slot_hashes
from tests.stages.tiny_runs import image_hashes, manifest_of

Copied = Callable[..., StageContext]
SLOTS = [(2, 1), (0, 0), (0, 1)]


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), dtype=np.uint8)


def test_pixels_come_back_exactly_with_their_slots_and_names(
    finished: StageContext, pixels: np.ndarray
) -> None:
    output = images_output(finished.config.dataset, "a-unit", pixels, SLOTS, {"more": 1})
    ((data, rows),) = output.shards.values()
    stored = read_images_table(table_from_bytes(data, url="x"))
    np.testing.assert_array_equal(stored.images, pixels)
    assert list(zip(stored.labels, stored.ipc_ids, strict=True)) == SLOTS
    assert (rows, list(output.shards)) == (3, ["a-unit.parquet"])
    assert stored.class_names == ("class0", "class1", "class2")
    expected = [[*slot, pixel_hash(image)] for slot, image in zip(SLOTS, pixels, strict=True)]
    assert output.meta == {"more": 1, "image_sha256": expected}


def test_hashes_of_jpegs_are_those_of_what_a_reader_decodes(copied: Copied, pixels: np.ndarray) -> None:
    context = copied("recover", "relabel", "evaluate", recover__image_format="jpeg")
    output = images_output(
        context.config.dataset, "a-unit", pixels, SLOTS, {}, section=context.config.recover
    )
    ((data, _),) = output.shards.values()
    stored = read_images_table(table_from_bytes(data, url="x")).images
    assert not np.array_equal(stored, pixels)
    assert [sha for _, _, sha in output.meta["image_sha256"]] == [pixel_hash(image) for image in stored]
    exact = images_output(context.config.dataset, "a-unit", pixels, SLOTS, {})
    assert [sha for _, _, sha in exact.meta["image_sha256"]] == [pixel_hash(image) for image in pixels]


def test_a_changed_pixel_changes_the_hash(pixels: np.ndarray) -> None:
    changed = pixels[0].copy()
    changed[0, 3, 3] ^= 1
    assert len({pixel_hash(pixels[0]), pixel_hash(changed), pixel_hash(pixels[0].copy())}) == 2


@pytest.mark.parametrize("stage", ["init", "recover"])
def test_slots_of_a_finished_stage_have_the_hashes_of_its_images(finished: StageContext, stage: str) -> None:
    condensed = CondensedImages(finished.store.url, stage=stage)
    found = {
        (int(label), int(ipc_id)): pixel_hash(image)
        for label, ipc_id, image in zip(condensed.labels, condensed.ipc_ids, condensed.images, strict=True)
    }
    assert slot_hashes(finished, stage) == found == image_hashes(finished, stage)  # type: ignore[arg-type]
    assert sorted(found) == [(label, ipc_id) for label in range(3) for ipc_id in range(2)]


def test_only_shards_that_hold_wanted_slots_are_read(
    finished: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = Store.read

    def spying(self: Store, path: str, **limit: int) -> bytes:
        read.append(path)
        return real(self, path, **limit)

    monkeypatch.setattr(Store, "read", spying)
    rows = read_stage_images(finished, "recover", {(1, 1)})
    assert list(zip(rows.labels.tolist(), rows.ipc_ids.tolist(), strict=True)) == [(1, 1)]
    assert [path for path in read if path.endswith(".parquet")] == [
        f"condensed/{manifest_of(finished, 'recover').records[1].shards[0].path}"
    ]
    whole = read_stage_images(finished, "recover")
    np.testing.assert_array_equal(rows.images[0], whole.images[3])


def test_a_jpeg_set_is_labelled_as_it_is_stored(copied: Copied, finished: StageContext) -> None:
    context = copied("recover", "relabel", "evaluate", recover__image_format="jpeg")
    run_pipeline(context, ["recover"])
    rows = read_stage_images(context, "recover")
    assert [pixel_hash(image) for image in rows.images] == list(image_hashes(context).values())
    assert image_hashes(context) != image_hashes(finished)
