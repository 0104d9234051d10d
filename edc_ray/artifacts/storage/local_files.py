"""Files on a local disk: a crash while a file is written leaves no half file under its name."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable

from edc_ray.errors import ArtifactError

TEMPORARY_SUFFIX = ".tmp~"
_NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}


def publish_local(full: str, data: bytes, *, replace: bool) -> bool:
    """Write under a temporary name, sync, then take the name `full` by a link, or a rename with `replace`.

    Returns whether it was written. False: a file of this name exists, and stays as it is. An OSError leaves
    nothing behind.
    """
    folder, name = os.path.split(full)
    _make_folder(folder)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _take_name(temporary, full, os.replace if replace else os.link)
    except FileExistsError:
        return False
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
    _sync_folder(folder)
    return True


def _take_name(temporary: str, full: str, take: Callable[[str, str], None]) -> None:
    try:
        take(temporary, full)
    except OSError as error:
        if take is os.replace or error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(full):
            raise FileExistsError(full) from None
        os.replace(temporary, full)  # whole, though two writers at the same instant could both succeed


def _make_folder(folder: str) -> None:
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    _make_folder(parent)
    os.makedirs(folder, exist_ok=True)
    _sync_folder(parent)


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_linked_folder(root: str, folder: str) -> None:
    """Refuse a folder of a store that is, or lies behind, a symbolic link.

    The files behind the link have another name too, and something may need them under that name.
    """
    place = root
    for part in folder.split("/"):
        place = os.path.join(place, part)
        if os.path.islink(place):
            raise ArtifactError(
                f"{place} is a symbolic link",
                found=f"it leads to {os.path.realpath(place)}",
                expected="a folder of its own: what lies behind a link may belong to something else",
                next="put the folder there instead of the link, or give the folder that it leads to",
            )


def refuse_way_out(root: str, full: str) -> None:
    """Refuse a symbolic link in a store that leads out of it. The root itself may be a link.

    A file outside may belong to somebody else. It must be neither copied nor deleted.
    """
    target, inside = os.path.realpath(full), os.path.realpath(root)
    if not target.startswith(inside.rstrip("/") + "/"):
        raise ArtifactError(
            f"{full} leads out of {root}",
            found=f"a symbolic link to {target}",
            expected="files that are in the folder itself",
            next="put the file there instead of the link, or make storage.root the link",
        )
