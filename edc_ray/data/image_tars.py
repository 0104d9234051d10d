"""Labelled images in tar files, as WebDataset keeps them: KEY.png (or jpg) beside KEY.cls or KEY.json.

Nothing is unpacked to a disk and no compressed file is read, so a tar takes no more than its own bytes.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from edc_ray.artifacts.limits import MAX_IMAGE_BYTES
from edc_ray.errors import ArtifactError, DataError

MAX_TAR_BYTES = 4 * 2**30
"""Of one file: it is read whole."""
_MAX_TEXT_BYTES = 2**16
_IMAGES = ("png", "jpg", "jpeg")
_TEXTS = ("cls", "json")
_LABEL = re.compile(rb"\s*\d{1,9}\s*")


class TarImage(NamedTuple):
    """An image of a tar: its name there, its bytes, class and ipc id (None: not told)."""

    name: str
    data: bytes
    label: int
    ipc_id: int | None


def images_of_tar(data: bytes, *, url: str) -> list[TarImage]:
    """The images of a tar file, in its order.

    Raises:
        ArtifactError: it is damaged, or a member is no plain file, lies outside, stands there twice or is too
            large; names `url`.
        DataError: an image without a class, or with two.
    """
    samples: dict[str, dict[str, bytes]] = defaultdict(dict)
    for name, content in _members(data, url):
        folder, _, base = name.rpartition("/")
        key, _, kind = base.partition(".")
        key, kind = f"{folder}/{key}" if folder else key, kind.lower()
        if kind in samples[key]:
            raise _refused(url, f"{name} twice")
        if kind in _IMAGES or kind in _TEXTS:
            samples[key][kind] = content
    return [
        _image(key, parts, url) for key, parts in samples.items() if any(kind in parts for kind in _IMAGES)
    ]


def _members(data: bytes, url: str) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            members = list(archive)
            end = archive.offset
    except Exception as error:  # damage shows in many ways
        raise _refused(url, f"{type(error).__name__}: {error}") from error
    if data.count(0, end) != len(data) - end:  # tarfile takes a damaged header for the end
        raise _refused(url, f"no member at byte {end} of {len(data)}")
    for member in members:
        parts = member.name.split("/")
        if member.isdir() or any(part.startswith("._") for part in parts):
            continue
        if not member.isreg() or member.issparse():
            raise _refused(url, f"{member.name[:80]!r}, which is no plain file")
        if member.name.startswith("/") or "\\" in member.name or ".." in parts:
            raise _refused(url, f"{member.name[:80]!r}, which leads out of the file")
        largest = _MAX_TEXT_BYTES if member.name.lower().endswith(_TEXTS) else MAX_IMAGE_BYTES
        if member.size > largest or member.offset_data + member.size > len(data):
            raise _refused(url, f"{member.name[:80]!r} of {member.size} bytes")
        yield "/".join(part for part in parts if part != "."), data[member.offset_data :][: member.size]


def _image(key: str, parts: Mapping[str, bytes], url: str) -> TarImage:
    kinds = [kind for kind in _IMAGES if kind in parts]
    about = _about(parts.get("json", b"{}"))
    said = [label for label in (_class_of(parts.get("cls")), about.get("label")) if label is not None]
    if len(kinds) != 1 or not said or len(set(said)) > 1:
        raise DataError(
            f"{url} holds no labelled image {key!r}",
            found=f"{' and '.join(sorted(parts))}; class {' and '.join(map(str, said)) or 'not told'}",
            expected=f"one of {', '.join(_IMAGES)}, and its class in .cls or as 'label' in .json",
        )
    return TarImage(f"{key}.{kinds[0]}", parts[kinds[0]], said[0], about.get("ipc_id"))


def _class_of(text: bytes | None) -> int | None:
    return int(text) if text is not None and _LABEL.fullmatch(text) else None


def _about(text: bytes) -> dict[str, int]:
    """What a .json tells in whole numbers."""
    try:
        stated: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    found = stated.items() if isinstance(stated, dict) else ()
    return {name: value for name, value in found if type(value) is int and value >= 0}


def _refused(url: str, found: str) -> ArtifactError:
    return ArtifactError(
        f"{url} is no tar file of images", found=found, expected="KEY.png or KEY.jpg, KEY.cls and KEY.json",
        next="fetch it anew",
    )  # fmt: skip
