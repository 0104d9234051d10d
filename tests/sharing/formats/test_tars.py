"""Tar files of others are read, and content that no honest file has is refused."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edc_ray.errors import ArtifactError, DataError, EdcRayError
from edc_ray.sharing.formats.tars import images_of_tar

SAMPLE = {"a.png": b"A", "a.cls": b"1", "a.json": b'{"label": 1, "ipc_id": 3}'}


def tar(members: dict[str, bytes], **facts: object) -> bytes:
    """A tar of some files; `facts` are set in the header of the last one."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for place, (name, data) in enumerate(members.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if place == len(members) - 1:
                for fact, value in facts.items():
                    setattr(member, fact, value)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def test_an_image_has_its_class_from_either_file_and_its_ipc_id_from_one() -> None:
    members = SAMPLE | {
        "./in/b.c.JPG": b"not the key's suffix", "in/b.JPEG": b"B", "in/b.cls": b" 2\n", "in/b.txt": b"a dog",
        "c.png": b"C", "c.json": b'{"label": 0, "ipc_id": "x"}', "._a.png": b"of a desktop", "README.md": b"",
    }  # fmt: skip
    assert images_of_tar(tar(members), url="x") == [
        ("a.png", b"A", 1, 3), ("in/b.JPEG", b"B", 2, None), ("c.png", b"C", 0, None),
    ]  # fmt: skip


def test_a_long_text_counts_only_where_the_class_is_not_told_without_it() -> None:
    long = json.dumps({"label": 1, "caption": "a" * 2**16}).encode()
    assert images_of_tar(tar({"a.png": b"A", "a.cls": b"1", "a.json": long, "info.json": long}), url="x") == [
        ("a.png", b"A", 1, None)
    ]
    for members, found in (({"a.json": long}, "a.json"), ({"a.cls": b"1" * (2**16 + 1)}, "a.cls")):
        with pytest.raises(DataError, match=f"(?s)longer than is read: {found}\n.*at most 65536 bytes"):
            images_of_tar(tar({"a.png": b"A"} | members), url="x")


@pytest.mark.parametrize("name", ["in/a.webp", "a.v2.png", "a.v2.JPG", "0.1.jpeg"])
def test_an_image_that_is_not_read_is_named(name: str) -> None:
    with pytest.raises(DataError, match=f"(?s)x holds images that are not read\n.*'{name}' .*KEY has no dot"):
        images_of_tar(tar({"c.png": b"C", "c.cls": b"1", name: b"B"}), url="x")


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"a.png": b"A"}, "class not told"),
        ({"a.png": b"A", "a.cls": b"-1"}, "class not told"),
        ({"a.png": b"A", "a.cls": b"9" * 10}, "class not told"),
        ({"a.png": b"A", "a.json": b"[" * 10_000}, "class not told"),
        ({"a.png": b"A", "a.json": b'{"label": true}'}, "class not told"),
        ({"a.png": b"A", "a.cls": b"1", "a.json": b'{"label": 2}'}, "class 1 and 2"),
        ({"a.png": b"A", "a.jpg": b"A", "a.cls": b"1"}, "cls and jpg and png"),
    ],
)
def test_an_image_without_one_class_is_refused(members: dict[str, bytes], match: str) -> None:
    with pytest.raises(DataError, match=f"x holds no labelled image 'a'\n.*{match}"):
        images_of_tar(tar(members), url="x")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (tar({"../a.png": b"A"}), "leads out of the file"),
        (tar({"/a.png": b"A"}), "leads out of the file"),
        (tar({"b\\..\\a.png": b"A"}), "leads out of the file"),
        (tar({"a.png": b""}, type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is no plain file"),
        (tar({"a.png": b""}, type=tarfile.LNKTYPE, linkname="b"), "is no plain file"),
        (tar({"a.png": b""}, type=tarfile.FIFOTYPE), "is no plain file"),
        (tar({"a.png": b""}, type=tarfile.GNUTYPE_SPARSE), "is no plain file"),
        (tar({"a.png": b"A", "A.png": b"A", "./a.png": b"B"}), "a.png twice"),
        (tar(SAMPLE)[:1600], "no tar file"),
        (tar(SAMPLE)[:1024] + b"x" + tar(SAMPLE)[1025:], "no member at byte 1024"),
        (b"", "empty file"),
        (b"\x1f\x8b" + b"\0" * 2000, "no tar file"),
    ],
)
def test_what_is_no_sound_tar_is_refused(data: bytes, match: str) -> None:
    with pytest.raises(ArtifactError, match=match):
        images_of_tar(data, url="x")


def test_a_size_beyond_the_file_is_refused_before_anything_is_read() -> None:
    data = bytearray(tar({"a.png": b"A"}))
    data[124:136] = b"77777777777\0"  # 8 GiB
    data[148:156] = b"%06o\0 " % sum(data[:148] + b" " * 8 + data[156:512])
    with pytest.raises(ArtifactError, match="is no tar file of images"):
        images_of_tar(bytes(data), url="x")


@given(st.integers(0, 3000), st.binary(max_size=20), st.integers(0, 5000))
def test_damage_is_refused_or_changes_what_is_read(place: int, patch: bytes, length: int) -> None:
    whole = tar(SAMPLE)
    data = (whole[:place] + patch + whole[place + len(patch) :])[:length]
    try:
        found = images_of_tar(data, url="x")
    except EdcRayError:
        return
    assert sum(len(image.data) for image in found) <= len(data)
