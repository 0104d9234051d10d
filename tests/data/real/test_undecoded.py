import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize

from edc_ray.config.dataset import Resize
from edc_ray.data.real.undecoded import (
    BadImageError,
    Decoding,
    MemoryReader,
    decode_pixels,
    decode_rows,
    find_bad_rows,
    is_grey,
    map_rows,
    open_image,
    shown_otherwise,
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
    found = decode_pixels(_png(WIDE), Decoding(3, size))
    assert found.shape == (3, size, size)
    assert np.abs(found.astype(int) - expected).mean() < (12 if (side - size) % 2 else 1e-9)


def test_a_centre_crop_leaves_an_eighth_out_and_square_resizing_nothing_as_torchvision_does() -> None:
    image: Any = Image.fromarray(WIDE)
    margin = pil_to_tensor(center_crop(resize(image, [16, 26]), [14, 14])).numpy()
    found = decode_pixels(_png(WIDE), Decoding(3, 14, "centre_crop"))
    np.testing.assert_array_equal(found, margin)
    squashed = pil_to_tensor(resize(image, [14, 14])).numpy()
    found = decode_pixels(_png(WIDE), Decoding(3, 14, "square"))
    np.testing.assert_array_equal(found, squashed)


def test_imagenets_centre_crop_of_224_pixels_is_out_of_256() -> None:
    array = RNG.integers(0, 256, (300, 375, 3), dtype=np.uint8)
    image: Any = Image.fromarray(array)
    expected = pil_to_tensor(center_crop(resize(image, [256, 320]), [224, 224])).numpy()
    found = decode_pixels(_png(array), Decoding(3, 224, "centre_crop"))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("how", ["shorter_side", "centre_crop", "square"])
def test_an_image_of_the_right_size_keeps_its_pixels(how: Resize) -> None:
    square = WIDE[:, :20]
    found = decode_pixels(_png(square), Decoding(3, 20, how))
    assert np.array_equal(found, square.transpose(2, 0, 1))


@pytest.mark.parametrize(("size", "enlarged"), [(64, 72), (32, 32), (14, 16)])
def test_rdeds_validation_enlarges_images_of_the_right_size_too(size: int, enlarged: int) -> None:
    array = RNG.integers(0, 256, (size, size, 3), dtype=np.uint8)
    image: Any = Image.fromarray(array)
    expected = pil_to_tensor(center_crop(resize(image, [enlarged, enlarged]), [size, size])).numpy()
    found = decode_pixels(_png(array), Decoding(3, size, "eight_sevenths"))
    np.testing.assert_array_equal(found, expected)
    assert np.array_equal(found, array.transpose(2, 0, 1)) == (size == enlarged)


def test_encoded_bytes_and_raw_pixels_decode_alike() -> None:
    for array, channels in ((WIDE, 3), (WIDE[..., 0], 1), (WIDE[..., 0], 3), (WIDE, 1)):
        raw = decode_pixels(np.ascontiguousarray(array), Decoding(channels, 10))
        assert np.array_equal(raw, decode_pixels(_png(array), Decoding(channels, 10)))


def test_sixteen_bit_grey_keeps_its_upper_byte() -> None:
    array = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    assert np.array_equal(decode_pixels(_png(array), Decoding(1, 8))[0], array >> 8)


def test_a_palette_with_transparency_decodes_without_a_warning() -> None:
    buffer = io.BytesIO()
    Image.fromarray(WIDE).convert("P").save(buffer, "PNG", transparency=b"\0" * 256)
    assert decode_pixels(buffer.getvalue(), Decoding(3, 20)).shape == (3, 20, 20)


def test_grey_is_told_from_colour() -> None:
    assert is_grey(open_image(_png(WIDE[..., 0])))
    assert is_grey(open_image(_png(WIDE[..., 0].astype(np.uint16))))
    assert not is_grey(open_image(_png(WIDE)))


def test_rows_are_decoded_in_the_order_asked_for_across_blocks() -> None:
    pixels = RNG.integers(0, 256, (600, 4, 4), dtype=np.uint8)
    rows = RNG.permutation(600)
    decoded = decode_rows(MemoryReader(pixels, "made"), rows, Decoding(1, 4))
    assert np.array_equal(decoded[:, 0], pixels[rows])


def test_whole_pictures_come_in_the_order_asked_for_each_of_its_own_size() -> None:
    arrays = [WIDE[:, : 10 + row % 20] for row in range(600)]
    rows = RNG.permutation(600)
    reader = MemoryReader([_png(array) for array in arrays], "made")
    found = map_rows(reader, rows, lambda position, picture: (position, picture), Decoding(3, 8))
    for position, (row, (counted, picture)) in enumerate(zip(rows, found, strict=True)):
        assert counted == position
        assert np.array_equal(picture, arrays[row].transpose(2, 0, 1))


def test_what_goes_wrong_with_a_sound_picture_is_not_called_corrupt() -> None:
    def work(position: int, picture: Tensor) -> None:
        raise ValueError("my own")

    with pytest.raises(ValueError, match="my own"):
        map_rows(MemoryReader([_png(WIDE)], "x"), np.arange(1), work, Decoding(3, 8))
    with pytest.raises(DataError, match="cannot decode image x row 0"):
        map_rows(MemoryReader([b"no image"], "x"), np.arange(1), work, Decoding(3, 8))


@pytest.mark.parametrize("broken", [b"", b"no image", _png(WIDE)[:200]])
def test_a_corrupt_image_is_named(broken: bytes) -> None:
    reader = MemoryReader([_png(WIDE), broken], ["good.png", "bad.png"])
    with pytest.raises(DataError, match=r"cannot decode image bad\.png"):
        decode_rows(reader, np.arange(2), Decoding(3, 8))


def test_a_digest_covers_content_and_order() -> None:
    reader = MemoryReader([b"a", b"b", b"a"], "made")
    digests = [reader.digest(np.asarray(rows)) for rows in ([0, 1], [2, 1], [1, 0])]
    assert digests[0] == digests[1] != digests[2]


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photograph_is_turned_as_viewers_turn_it(kind: str) -> None:
    shown = Image.fromarray(np.repeat(np.repeat(WIDE[:16, :24], 8, 0), 8, 1)).resize((96, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = _saved(shown.transpose(Image.Transpose.ROTATE_90), kind, exif=exif, quality=95)
    upright = decode_pixels(_saved(shown, "PNG"), Decoding(3, 32)).astype(int)
    assert abs(decode_pixels(stored, Decoding(3, 32)) - upright).mean() < 12
    assert shown_otherwise(open_image(stored), "ignore") == (
        kind != "PNG" or "exif" in open_image(stored).info
    )


@pytest.mark.parametrize(("transparency", "expected"), [("white", 255), ("black", 0), ("ignore", 90)])
@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP"), ("P", "GIF")])
def test_transparent_pixels_show_the_background(mode, kind, transparency, expected) -> None:
    if mode == "P":
        image = Image.new("P", (8, 8), 1)
        image.putpalette([0, 0, 0, 90, 90, 90])
        item = _saved(image, kind, transparency=1)
    else:
        image = Image.new(mode, (8, 8), (90, 90, 90, 0) if mode == "RGBA" else (90, 0))
        item = _saved(image, kind, lossless=True, exact=True)
    found = decode_pixels(item, Decoding(3, 8, transparency=transparency))
    assert set(found.ravel().tolist()) == {expected}
    assert shown_otherwise(open_image(item), transparency) == (transparency != "ignore")
    assert decode_pixels(item, Decoding(1, 8, transparency=transparency)).max() == expected


@pytest.mark.parametrize("kind", ["GIF", "PPM", "BMP"])
def test_further_formats_are_read(kind: str) -> None:
    image = Image.new("RGB", (8, 8), (255, 0, 0))
    assert decode_pixels(_saved(image, kind), Decoding(3, 8))[:, 0, 0].tolist() == [255, 0, 0]


def test_a_picture_with_too_many_pixels_is_to_be_scaled_down() -> None:
    large = b"P6 12000 9000 255\n" + b"\0" * 100
    with pytest.raises(DataError, match=r"(?s)108000000 pixels.*67 megapixels.*scale it down"):
        decode_rows(MemoryReader([large], "x"), np.arange(1), Decoding(3, 8))


def test_pillows_own_warning_of_such_a_picture_is_not_shown() -> None:
    code = "from edc_ray.data.real.undecoded import Image; Image._decompression_bomb_check((12000, 9000))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Decompression" not in shown.stderr


def test_all_bad_images_of_a_block_are_named() -> None:
    items = [_png(WIDE), b"junk", _png(WIDE)[:200], BadImageError("c.png", "no bytes", "store it")]
    reader = MemoryReader(items, ["a.png", "b.png", "b2.png", "c.png"])
    with pytest.raises(DataError, match=r"(?s)3 images.*b\.png: .*b2\.png: .*c\.png: no bytes"):
        decode_rows(reader, np.arange(4), Decoding(3, 8))
    assert list(find_bad_rows(reader, np.arange(4))) == [1, 2, 3]
