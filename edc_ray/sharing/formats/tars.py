"""Labelled images in tar files in WebDataset's layout: KEY.png (or jpg) beside KEY.cls or KEY.json.

Nothing is unpacked to a disk and no compressed file is read, so a tar needs only its own size in memory.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from edc_ray.artifacts.storage.limits import MAX_IMAGE_BYTES
from edc_ray.errors import ArtifactError, DataError

MAX_TAR_BYTES = 4 * 2**30
"""Of one file, which is read whole."""
_MAX_TEXT_BYTES = 2**16
_IMAGES = ("png", "jpg", "jpeg")
_TEXTS = ("cls", "json")
_OTHERS = ("webp", "bmp", "gif", "tif", "tiff", "ppm", "jxl", "avif")
_LABEL = re.compile(rb"\s*\d{1,9}\s*")


class TarImage(NamedTuple):
    """An image of a tar: its name, its bytes, its class, and its ipc id if the tar states it."""

    name: str
    data: bytes
    label: int
    ipc_id: int | None


def images_of_tar(data: bytes, *, url: str) -> list[TarImage]:
    """The images of a tar file, in its order.

    Raises:
        ArtifactError: the file is damaged, or a member is not a plain file, leads out of the tar, occurs
            twice or is too large. Names `url`.
        DataError: an image has no class or two, or a format or name that is not supported.
    """
    samples: dict[str, dict[str, _Member]] = defaultdict(dict)
    unread: dict[str, str] = {}
    for member in _members(data, url):
        folder, _, base = member.name.rpartition("/")
        key, _, kind = base.partition(".")
        key, kind = f"{folder}/{key}" if folder else key, kind.lower()
        if kind in samples[key]:
            raise _refused(url, f"{member.name} twice")
        if kind in _IMAGES or kind in _TEXTS:
            samples[key][kind] = member
        elif kind.rpartition(".")[2] in (*_IMAGES, *_OTHERS):
            unread[key] = member.name
    pictured = {key: parts for key, parts in samples.items() if any(kind in parts for kind in _IMAGES)}
    # A sample may have other images beside the one that is read, such as KEY.mask.png.
    if missed := [name for key, name in unread.items() if key not in pictured]:
        raise DataError(
            f"{url} holds images of other formats or names",
            found=f"{missed[0][:80]!r} ({len(missed)} such)",
            expected=f"KEY.{', KEY.'.join(_IMAGES)}, where KEY has no dot",
            next="write them as PNG or JPEG, under such names",
        )
    return [_image(key, parts, url) for key, parts in pictured.items()]


class _Member(NamedTuple):
    """A file of a tar. `content` is None for a text that is too long."""

    name: str
    content: bytes | None


def _members(data: bytes, url: str) -> Iterator[_Member]:
    """Each file, in order."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            members = list(archive)
            end = archive.offset
    except Exception as error:  # of many kinds
        raise _refused(url, f"{type(error).__name__}: {error}") from error
    if data.count(0, end) != len(data) - end:  # tarfile takes a damaged header for the end
        raise _refused(url, f"no member at byte {end} of {len(data)}")
    for member in members:
        parts = member.name.split("/")
        if member.isdir() or any(part.startswith("._") for part in parts):
            continue
        if not member.isreg() or member.issparse():
            raise _refused(url, f"{member.name[:80]!r}, which is not a plain file")
        if member.name.startswith("/") or "\\" in member.name or ".." in parts:
            raise _refused(url, f"{member.name[:80]!r}, which leads out of the file")
        end = member.offset_data + member.size
        if member.size > MAX_IMAGE_BYTES or end > len(data):
            raise _refused(url, f"{member.name[:80]!r} of {member.size} bytes")
        is_long = member.size > _MAX_TEXT_BYTES and member.name.lower().endswith(_TEXTS)
        name = "/".join(part for part in parts if part != ".")
        yield _Member(name, None if is_long else data[member.offset_data : end])


def _image(key: str, parts: Mapping[str, _Member], url: str) -> TarImage:
    images = [parts[kind] for kind in _IMAGES if kind in parts]
    texts = {kind: parts[kind].content or b"" for kind in _TEXTS if kind in parts}
    label, about = texts.get("cls", b""), _about(texts.get("json", b""))
    told = int(label) if _LABEL.fullmatch(label) else None
    said = [number for number in (told, about.get("label")) if number is not None]
    if len(images) != 1 or not said or len(set(said)) > 1:
        found = f"{' and '.join(sorted(parts))}; class {' and '.join(map(str, said)) or 'not told'}"
        long = [part.name for part in parts.values() if part.content is None]
        limit = f" of at most {_MAX_TEXT_BYTES} bytes" if long else ""
        raise DataError(
            f"{url} holds no labelled image {key!r}",
            found=f"{found}; longer than is read: {', '.join(long)}" if long else found,
            expected=f"one of {', '.join(_IMAGES)}, and its class in .cls or as 'label' in .json{limit}",
        )
    image = images[0]
    assert image.content is not None
    return TarImage(image.name, image.content, said[0], about.get("ipc_id"))


def _about(text: bytes) -> dict[str, int]:
    """The whole numbers that a .json states."""
    try:
        stated: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    found = stated.items() if isinstance(stated, dict) else ()
    return {name: value for name, value in found if type(value) is int and value >= 0}


def _refused(url: str, found: str) -> ArtifactError:
    return ArtifactError(
        f"{url} is not a tar file of images", found=found,
        expected="KEY.png or KEY.jpg, KEY.cls and KEY.json", next="fetch it again",
    )  # fmt: skip
