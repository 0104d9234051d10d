"""Decoding on a device, proven on a CPU: torchvision's CPU decoder takes the place of nvJPEG."""

from __future__ import annotations

import io
import os
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import datasets
from torch import Tensor

from edc_ray.config.dataset import Resize
from edc_ray.data.real import device_decoding
from edc_ray.data.real.device_decoding import check_device_decoder, decode_rows_on, map_rows_on
from edc_ray.data.real.images import EncodedImages
from edc_ray.data.real.undecoded import Decoding, MemoryReader, decode_pixels, decode_rows, map_rows
from edc_ray.errors import DataError, ResourceError

CPU = torch.device("cpu")
SIZE = 96


def _photograph(name: str) -> bytes:
    with open(os.path.join(os.path.dirname(datasets.__file__), "images", name), "rb") as file:
        return file.read()


def _stored(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


CHINA, FLOWER = _photograph("china.jpg"), _photograph("flower.jpg")
SHOWN = Image.open(io.BytesIO(CHINA))
TURNED = Image.Exif()
TURNED[0x0112] = 6

PLAIN = {
    "photograph": CHINA,
    "other photograph": FLOWER,
    "upright": _stored(SHOWN.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90),
    "of the size": _stored(SHOWN.resize((SIZE, SIZE)), "JPEG", quality=95),
    "progressive": _stored(SHOWN.resize((200, 150)), "JPEG", progressive=True),
    "upright by its tag": _stored(SHOWN.resize((200, 150)), "JPEG", exif=b""),
}
OTHERS = {
    "png": _stored(SHOWN.resize((200, 150)), "PNG"),
    "turned": _stored(SHOWN.resize((200, 150)), "JPEG", exif=TURNED),
    "cmyk": _stored(SHOWN.resize((200, 150)).convert("CMYK"), "JPEG"),
    "grey": _stored(SHOWN.resize((200, 150)).convert("L"), "JPEG"),
    "colours as they are": _stored(SHOWN.resize((200, 150)), "JPEG", keep_rgb=True),
    "pixels": np.asarray(SHOWN.resize((200, 150))),
    "something behind the end": _stored(SHOWN.resize((200, 150)), "JPEG") + b"more",
}
ALL = {**PLAIN, **OTHERS}
READER = MemoryReader(list(ALL.values()), list(ALL))
# Neither sorted nor each once.
ROWS = np.concatenate([np.random.default_rng(0).permutation(len(ALL)), [0, len(PLAIN)]])


@pytest.fixture
def decoded_there(monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """The files that the device decodes, as it is asked for them."""
    files: list[list[bytes]] = []
    decode = device_decoding._decode

    def watched(some: list[bytes], device: torch.device, mode: str) -> list[Tensor]:
        if some:
            files.append(some)
        return decode(some, device, mode)

    monkeypatch.setattr(device_decoding, "_decode", watched)
    return files


def assert_near_pillow(found: np.ndarray, rows: np.ndarray, decoding: Decoding, levels: float) -> None:
    """Plain JPEG files within some grey levels in the mean, all others equal."""
    expected = decode_rows(READER, rows, decoding)
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    for place, row in enumerate(rows.tolist()):
        off = np.abs(found[place].astype(int) - expected[place].astype(int))
        assert off.mean() < (levels if row < len(PLAIN) else 1e-9), list(ALL)[row]


@pytest.mark.parametrize(("files", "pixels"), [(256, 1 << 25), (2, 1 << 25), (256, 427 * 640)])
@pytest.mark.parametrize("how", ["shorter_side", "centre_crop", "square", "eight_sevenths"])
def test_plain_jpeg_files_are_decoded_there_near_pillow_and_others_by_pillow(
    monkeypatch: pytest.MonkeyPatch, decoded_there: list[list[bytes]], how: Resize, files: int, pixels: int
) -> None:
    monkeypatch.setattr(device_decoding, "_FILES_AT_ONCE", files)
    monkeypatch.setattr(device_decoding, "_PIXELS_AT_ONCE", pixels)
    found = decode_rows_on(CPU, READER, ROWS, Decoding(3, SIZE, how, decoder="device"))
    assert_near_pillow(found.numpy(), ROWS, Decoding(3, SIZE, how), 0.3)
    expected = [ALL[list(ALL)[row]] for row in ROWS if row < len(PLAIN)]
    together = [some for some in decoded_there if len(some) > 1 or len(b"".join(some)) > 2000]
    assert list(chain.from_iterable(together)) == expected
    if pixels < 1 << 25:
        assert [CHINA] in together
    elif files > 2:
        assert together == [expected]


def test_grey_files_of_a_grey_set_are_decoded_there(decoded_there: list[list[bytes]]) -> None:
    grey = _stored(SHOWN.convert("L"), "JPEG")
    rows, reader = np.arange(2), MemoryReader([CHINA, grey], "x")
    found = decode_rows_on(CPU, reader, rows, Decoding(1, SIZE)).numpy()
    assert np.abs(found - decode_rows(reader, rows, Decoding(1, SIZE)).astype(int)).max() <= 1
    assert decoded_there[-1] == [grey]


def test_whole_pictures_are_decoded_there_too(
    monkeypatch: pytest.MonkeyPatch, decoded_there: list[list[bytes]]
) -> None:
    rows, decoding = np.array([8, 0, 6]), Decoding(3, SIZE)
    by_pillow: list[int] = []

    def watched(reader: Any, some: np.ndarray, *rest: Any) -> Any:
        by_pillow.extend(some.tolist())
        return map_rows(reader, some, *rest)

    monkeypatch.setattr(device_decoding, "map_rows", watched)
    there = map_rows_on(CPU, READER, rows, lambda position, picture: (position, picture.numpy()), decoding)
    here = map_rows(READER, rows, lambda position, picture: (position, picture.numpy()), decoding)
    assert [position for position, _ in there] == [0, 1, 2]
    for (_, one), (_, other) in zip(there, here, strict=True):
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other).mean() < 0.1
    assert decoded_there[-1] == [CHINA]
    assert by_pillow == [8, 6]


def test_a_file_that_the_device_cannot_decode_goes_to_pillow_and_the_others_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decode = device_decoding._decode
    alone: list[bytes] = []

    def choosy(files: list[bytes], device: torch.device, mode: str) -> list[Tensor]:
        if FLOWER in files:
            raise RuntimeError("nvJPEG does not say which")
        if len(files) == 1:
            alone.extend(files)
        return decode(files, device, mode)

    monkeypatch.setattr(device_decoding, "_decode", choosy)
    reader, decoding = MemoryReader([CHINA, FLOWER], "x"), Decoding(3, SIZE)
    found = decode_rows_on(CPU, reader, np.arange(2), decoding).numpy()
    assert np.array_equal(found[1], decode_pixels(FLOWER, decoding))
    assert np.abs(found[0].astype(int) - decode_pixels(CHINA, decoding)).mean() < 0.6
    assert CHINA in alone


@pytest.mark.parametrize("damaged", [CHINA[: len(CHINA) // 2], b"no image", b"\xff\xd8\xff\xd9"])
def test_a_damaged_file_is_named(damaged: bytes) -> None:
    reader = MemoryReader([CHINA, damaged], ["sound.jpg", "damaged.jpg"])
    with pytest.raises(DataError, match=r"cannot decode image damaged\.jpg"):
        decode_rows_on(CPU, reader, np.arange(2), Decoding(3, SIZE))


def test_a_set_says_in_its_hash_who_decodes_it_and_gives_the_pixels_of_both() -> None:
    rows, labels = np.arange(len(ALL)), np.zeros(len(ALL))
    there, here = (
        EncodedImages(READER, rows, labels, ("a",), Decoding(3, SIZE, decoder=decoder))
        for decoder in ("device", "pillow")
    )
    assert there.content_hash != here.content_hash
    assert np.array_equal(there.fetch(ROWS), here.fetch(ROWS))
    assert np.array_equal(here.fetch_to(CPU, ROWS).numpy(), here.fetch(ROWS))
    expected = decode_rows_on(CPU, READER, ROWS, there.decoding)
    assert torch.equal(there.fetch_to(CPU, ROWS), expected)
    assert torch.equal(there.subset(ROWS).fetch_to(CPU, rows), expected[: len(ALL)])
    assert not np.array_equal(expected.numpy(), here.fetch(ROWS))
    (shape,) = there.map_pictures(CPU, np.array([1]), lambda _, picture: picture.shape)
    assert shape == (3, SIZE, SIZE)
    whole = EncodedImages(READER, rows, labels, ("a",), there.decoding, whole=True)
    (shape,) = whole.map_pictures(CPU, np.array([1]), lambda _, picture: picture.shape)
    assert shape == (3, 427, 640)


def test_a_build_without_the_decoder_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    check_device_decoder(CPU)

    def decode(*_: Any) -> list[Tensor]:
        raise RuntimeError("torchvision not compiled with nvJPEG support\nException raised from ...")

    monkeypatch.setattr(device_decoding, "_decode", decode)
    with pytest.raises(ResourceError, match="torchvision decodes no JPEG files on this device") as caught:
        check_device_decoder(CPU)
    assert caught.value.found == "torchvision not compiled with nvJPEG support"
    assert caught.value.next == "set dataset.decoder=pillow"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("how", ["shorter_side", "eight_sevenths"])
def test_on_cuda_plain_jpeg_files_are_near_pillow_and_others_equal_it(how: Resize) -> None:
    check_device_decoder(torch.device("cuda"))
    found = decode_rows_on(torch.device("cuda"), READER, ROWS, Decoding(3, SIZE, how))
    assert found.is_cuda
    assert_near_pillow(found.cpu().numpy(), ROWS, Decoding(3, SIZE, how), 3)
