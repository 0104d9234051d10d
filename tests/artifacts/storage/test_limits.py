from __future__ import annotations

import bz2
import io
import resource
import zipfile
import zlib

import pytest

from edc_ray.artifacts.storage.limits import (
    FREE_BYTES,
    MAX_DECODED_BYTES,
    MAX_IMAGE_PIXELS,
    MAX_RATIO,
    read_member,
    refuse_inflated,
    refuse_inflated_zip,
    refuse_large_image,
)


@pytest.mark.parametrize(
    ("claimed", "stored"), [(0, 0), (FREE_BYTES, 1), (MAX_RATIO * 10**6, 10**6), (MAX_DECODED_BYTES, 2**40)]
)
def test_sizes_up_to_the_limits_pass(claimed: int, stored: int) -> None:
    refuse_inflated(claimed, stored)
    with pytest.raises(ValueError, match="claim to be"):
        refuse_inflated(max(claimed + 1, FREE_BYTES + 1), stored)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="claim to be -1"):
        refuse_inflated(-1, 100)


def test_an_image_of_a_pixel_too_many_is_refused() -> None:
    refuse_large_image(MAX_IMAGE_PIXELS, 1)
    with pytest.raises(ValueError, match="pixels are more than"):
        refuse_large_image(MAX_IMAGE_PIXELS + 1, 1)


def test_members_of_a_zip_are_counted_together() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "ab":
            archive.writestr(name, bytes(FREE_BYTES // 2 + 1))
    members = zipfile.ZipFile(buffer).infolist()
    refuse_inflated_zip(members[:1], 100)
    with pytest.raises(ValueError, match="claim to be"):
        refuse_inflated_zip(members, 100)


def _zip_that_lies(method: int, *, claimed: int) -> bytes:
    """A member of 128 MiB of zeros that the directory claims is smaller."""
    packer = (
        zlib.compressobj(1, zlib.DEFLATED, -15) if method == zipfile.ZIP_DEFLATED else bz2.BZ2Compressor(1)
    )
    packed = b"".join(packer.compress(bytes(2**24)) for _ in range(8)) + packer.flush()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("mean.npy", packed)
    data = bytearray(buffer.getvalue())
    entry = data.index(b"PK\1\2")
    for place in (8, entry + 10):
        data[place : place + 2] = method.to_bytes(2, "little")
    for place in (22, entry + 24):
        data[place : place + 4] = claimed.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_of_a_member_no_more_is_unpacked_than_the_directory_says(method: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    archive = zipfile.ZipFile(io.BytesIO(_zip_that_lies(method, claimed=1000)))
    with pytest.raises((ValueError, zipfile.BadZipFile), match=r"CRC|packed by the method"):
        read_member(archive, archive.infolist()[0])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15


def test_a_member_of_fewer_bytes_than_it_says_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mean.npy", b"1234")
    data = buffer.getvalue()
    archive = zipfile.ZipFile(io.BytesIO(data))
    member = archive.infolist()[0]
    assert read_member(archive, member) == b"1234"
    member.file_size = 5
    with pytest.raises((ValueError, EOFError), match=r"cut short|^$"):
        read_member(archive, member)
