from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edc_ray.artifacts.tables.codec import decode_image
from edc_ray.errors import ConfigError
from edc_ray.sharing.export.images import encoded_images, images_to_export, parts_of
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.image_shards import pixel_hash
from tests.stages.tiny_runs import image_hashes


def test_images_come_in_order_a_block_of_classes_at_a_time(finished: StageContext) -> None:
    source = images_to_export(finished.store.url, None)
    blocks = list(encoded_images(source))
    assert [list(block) for block in blocks] == [[(label, 0), (label, 1)] for label in range(3)]
    found = {slot: pixel_hash(decode_image(data)) for block in blocks for slot, data in block.items()}
    assert found == source.hashes == image_hashes(finished)
    assert (source.ipc, source.whole) == (2, True)


def test_fewer_images_are_the_first_of_each_class(finished: StageContext) -> None:
    source = images_to_export(finished.store.url, 1)
    assert [slot for block in encoded_images(source) for slot in block] == [(label, 0) for label in range(3)]
    assert (source.ipc, source.whole) == (1, False)
    assert source.stored_bytes * 2 <= images_to_export(finished.store.url, 2).stored_bytes + 1
    with pytest.raises(ConfigError, match="holds fewer images than are asked for"):
        images_to_export(finished.store.url, 3)


@given(count=st.integers(1, 500), size=st.integers(1, 10**6), limit=st.integers(1, 10**6))
def test_files_end_one_after_another_and_are_even(count: int, size: int, limit: int) -> None:
    ends = parts_of(count, size, limit)
    sizes = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    assert ends[-1] == count
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert len(ends) == min(count, -(-size // limit))
