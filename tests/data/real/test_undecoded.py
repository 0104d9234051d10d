import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize

from edc_ray.config.dataset import Resize
from edc_ray.data.real.undecoded import (
    MemoryReader,
    decode_pixels,
    decode_rows,
    is_grey,
    map_rows,
    open_image,
)
from edc_ray.errors import DataError


def _png(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **options)
    return buffer.getvalue()


RNG = np.random.default_rng(0)
WIDE = RNG.integers(0, 256, (20, 33, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [8, 20, 31])
def test_an_oblong_image_is_resized_and_cropped_as_torchvision_does(size: int) -> None:
    image: Any = Image.fromarray(WIDE)
    side = round(33 * size / 20)
    expected = pil_to_tensor(center_crop(resize(image, [size, side]), [size, size])).numpy()
    found = decode_pixels(_png(WIDE), channels=3, image_size=size)
    assert found.shape == (3, size, size)
    assert np.abs(found.astype(int) - expected).mean() < (12 if (side - size) % 2 else 1e-9)


def test_a_centre_crop_leaves_an_eighth_out_and_square_resizing_nothing_as_torchvision_does() -> None:
    image: Any = Image.fromarray(WIDE)
    margin = pil_to_tensor(center_crop(resize(image, [16, 26]), [14, 14])).numpy()
    found = decode_pixels(_png(WIDE), channels=3, image_size=14, resize="centre_crop")
    np.testing.assert_array_equal(found, margin)
    squashed = pil_to_tensor(resize(image, [14, 14])).numpy()
    found = decode_pixels(_png(WIDE), channels=3, image_size=14, resize="square")
    np.testing.assert_array_equal(found, squashed)


def test_imagenets_centre_crop_of_224_pixels_is_out_of_256() -> None:
    array = RNG.integers(0, 256, (300, 375, 3), dtype=np.uint8)
    image: Any = Image.fromarray(array)
    expected = pil_to_tensor(center_crop(resize(image, [256, 320]), [224, 224])).numpy()
    found = decode_pixels(_png(array), channels=3, image_size=224, resize="centre_crop")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("how", ["shorter_side", "centre_crop", "square"])
def test_an_image_of_the_right_size_keeps_its_pixels(how: Resize) -> None:
    square = WIDE[:, :20]
    found = decode_pixels(_png(square), channels=3, image_size=20, resize=how)
    assert np.array_equal(found, square.transpose(2, 0, 1))


@pytest.mark.parametrize(("size", "enlarged"), [(64, 72), (32, 32), (14, 16)])
def test_rdeds_validation_enlarges_images_of_the_right_size_too(size: int, enlarged: int) -> None:
    array = RNG.integers(0, 256, (size, size, 3), dtype=np.uint8)
    image: Any = Image.fromarray(array)
    expected = pil_to_tensor(center_crop(resize(image, [enlarged, enlarged]), [size, size])).numpy()
    found = decode_pixels(_png(array), channels=3, image_size=size, resize="eight_sevenths")
    np.testing.assert_array_equal(found, expected)
    assert np.array_equal(found, array.transpose(2, 0, 1)) == (size == enlarged)


def test_encoded_bytes_and_raw_pixels_decode_alike() -> None:
    for array, channels in ((WIDE, 3), (WIDE[..., 0], 1), (WIDE[..., 0], 3), (WIDE, 1)):
        raw = decode_pixels(np.ascontiguousarray(array), channels=channels, image_size=10)
        assert np.array_equal(raw, decode_pixels(_png(array), channels=channels, image_size=10))


def test_sixteen_bit_grey_keeps_its_upper_byte() -> None:
    array = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    assert np.array_equal(decode_pixels(_png(array), channels=1, image_size=8)[0], array >> 8)


def test_a_palette_with_transparency_decodes_without_a_warning() -> None:
    buffer = io.BytesIO()
    Image.fromarray(WIDE).convert("P").save(buffer, "PNG", transparency=b"\0" * 256)
    assert decode_pixels(buffer.getvalue(), channels=3, image_size=20).shape == (3, 20, 20)


def test_grey_is_told_from_colour() -> None:
    assert is_grey(open_image(_png(WIDE[..., 0])))
    assert is_grey(open_image(_png(WIDE[..., 0].astype(np.uint16))))
    assert not is_grey(open_image(_png(WIDE)))


def test_rows_are_decoded_in_the_order_asked_for_across_blocks() -> None:
    pixels = RNG.integers(0, 256, (600, 4, 4), dtype=np.uint8)
    rows = RNG.permutation(600)
    decoded = decode_rows(MemoryReader(pixels, "made"), rows, channels=1, image_size=4)
    assert np.array_equal(decoded[:, 0], pixels[rows])


def test_whole_pictures_come_in_the_order_asked_for_each_of_its_own_size() -> None:
    arrays = [WIDE[:, : 10 + row % 20] for row in range(600)]
    rows = RNG.permutation(600)
    reader = MemoryReader([_png(array) for array in arrays], "made")
    found = map_rows(reader, rows, lambda position, picture: (position, picture), channels=3)
    for position, (row, (counted, picture)) in enumerate(zip(rows, found, strict=True)):
        assert counted == position
        assert np.array_equal(picture, arrays[row].transpose(2, 0, 1))


def test_what_goes_wrong_with_a_sound_picture_is_not_called_corrupt() -> None:
    def work(position: int, picture: np.ndarray) -> None:
        raise ValueError("my own")

    with pytest.raises(ValueError, match="my own"):
        map_rows(MemoryReader([_png(WIDE)], "x"), np.arange(1), work, channels=3)
    with pytest.raises(DataError, match="cannot decode image x row 0"):
        map_rows(MemoryReader([b"no image"], "x"), np.arange(1), work, channels=3)


@pytest.mark.parametrize("broken", [b"", b"no image", _png(WIDE)[:200]])
def test_a_corrupt_image_is_named(broken: bytes) -> None:
    reader = MemoryReader([_png(WIDE), broken], ["good.png", "bad.png"])
    with pytest.raises(DataError, match=r"cannot decode image bad\.png"):
        decode_rows(reader, np.arange(2), channels=3, image_size=8)


def test_a_digest_covers_content_and_order() -> None:
    reader = MemoryReader([b"a", b"b", b"a"], "made")
    digests = [reader.digest(np.asarray(rows)) for rows in ([0, 1], [2, 1], [1, 0])]
    assert digests[0] == digests[1] != digests[2]
