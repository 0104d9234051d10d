"""Folders of condensed images as the official programs and RDED write them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edc_ray.artifacts.storage.store import open_store
from edc_ray.artifacts.tables.codec import decode_image, encode_image
from edc_ray.errors import ArtifactError, DataError
from edc_ray.sharing.formats.official_images import (
    OfficialFolder,
    image_suffix,
    numbered_slots,
    official_image_path,
    open_official_folder,
    reencoded,
)


def picture(number: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)


def write(root: Path, names: list[str], side: int = 8) -> None:
    """By Pillow, one picture after the other."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number, side)).save(root / name)


def opened(root: Path) -> OfficialFolder:
    return open_official_folder(open_store(str(root), writable=False))


EDC = [f"new{label:03d}/class{label:03d}_id{ipc_id:03d}.png" for label in range(3) for ipc_id in range(2)]
RDED = [f"{label:05d}/class{label:05d}_id{ipc_id:05d}.png" for label in range(3) for ipc_id in range(2)]


@pytest.mark.parametrize("names", [EDC, RDED])
def test_class_and_id_come_from_the_names_and_pixels_from_pillow(tmp_path: Path, names: list[str]) -> None:
    write(tmp_path, names)
    folder = opened(tmp_path)
    assert folder.files == tuple(names)
    assert folder.slots == tuple((label, ipc_id) for label in range(3) for ipc_id in range(2))
    assert (folder.num_classes, folder.ipc) == (3, 2)
    np.testing.assert_array_equal(
        folder.read([4, 0]), np.stack([picture(4), picture(0)]).transpose(0, 3, 1, 2)
    )


def test_files_of_more_than_three_digits_keep_their_ids_though_sorting_puts_them_elsewhere(
    tmp_path: Path,
) -> None:
    write(tmp_path, [f"new{k:03d}/class{k:03d}_id{i:03d}.png" for k in (0, 1) for i in range(1001)], side=1)
    folder = opened(tmp_path)
    assert folder.files[101] == "new000/class000_id1000.png"
    assert folder.slots[100:103] == ((0, 100), (0, 1000), (0, 101))


def test_constant_ids_are_replaced_by_the_order_of_the_names_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"new{k:03d}/loss{value}_id000.png" for k in range(2) for value in (0.25, 1.5, 3.0)]
    write(tmp_path, names)
    with caplog.at_level(logging.WARNING, "edc_ray"):
        folder = opened(tmp_path)
    assert folder.slots == tuple((k, number) for k in range(2) for number in range(3))
    assert "the ids of the images of 2 classes" in caplog.text


@pytest.mark.parametrize(
    ("names", "match", "found"),
    [
        ([], "no images in", None),
        ([*EDC[:4], "cats/class002_id000.png"], "no folder of condensed images", "cats/class002_id000.png"),
        (["class000_id000.png"], "no folder of condensed images", "class000_id000.png"),
        ([*EDC[:2], *EDC[4:]], "classes without images", "no folder of class 1"),
        (EDC[:5], "different numbers of images", "class 2 has 1"),
        ([*EDC[:5], "new002/class001_id001.png"], "differ in its class", "new002/class001_id001.png"),
    ],
)
def test_a_folder_that_is_no_whole_set_is_refused(
    tmp_path: Path, names: list[str], match: str, found: str | None
) -> None:
    write(tmp_path, names)
    with pytest.raises(DataError, match=match) as caught:
        opened(tmp_path)
    assert found is None or found in str(caught.value.found)


def test_images_of_several_sizes_and_broken_ones_are_named(tmp_path: Path) -> None:
    write(tmp_path, EDC)
    Image.fromarray(picture(0, 9)).save(tmp_path / EDC[3])
    with pytest.raises(DataError, match="not squares of one size") as caught:
        opened(tmp_path).read(range(6))
    assert EDC[3] in str(caught.value)
    (tmp_path / EDC[3]).write_bytes(b"no picture")
    with pytest.raises(ArtifactError, match=r"class001_id001.png cannot be decoded"):
        opened(tmp_path).read(range(6))


def test_bytes_are_kept_unless_another_format_is_asked_for() -> None:
    data = encode_image(picture(0).transpose(2, 0, 1), "jpeg")
    assert reencoded(data, None) == reencoded(data, "jpeg") == data
    other = reencoded(data, "png")
    assert [image_suffix(data), image_suffix(other)] == ["jpg", "png"]
    np.testing.assert_array_equal(decode_image(other), decode_image(data))


def test_names_are_those_of_each_style() -> None:
    assert official_image_path((12, 3), "rded", "jpg") == "00012/class00012_id00003.jpg"
    assert official_image_path((12, 3), "official", "png") == "new012/class012_id003.png"


@pytest.mark.parametrize("label", [-1, 2**62])
def test_a_class_that_cannot_be_is_refused_at_once(label: int) -> None:
    with pytest.raises(DataError, match="an image of no class"):
        numbered_slots(open_store("memory://slots"), [0, 1, label], [None] * 3)
