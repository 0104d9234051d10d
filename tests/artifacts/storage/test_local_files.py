from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edc_ray.artifacts.storage.local_files import publish_local, refuse_way_out
from edc_ray.errors import ArtifactError


def test_a_name_is_taken_once_unless_it_may_be_replaced(tmp_path: Path) -> None:
    full = str(tmp_path / "new" / "folder" / "name")
    assert publish_local(full, b"one", replace=False)
    assert not publish_local(full, b"two", replace=False)
    assert Path(full).read_bytes() == b"one"
    assert publish_local(full, b"three", replace=True)
    assert Path(full).read_bytes() == b"three"
    assert os.listdir(tmp_path / "new" / "folder") == ["name"]


def test_a_disk_without_hard_links_is_written_to_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: str) -> None:
        raise OSError(errno.EOPNOTSUPP, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    full = str(tmp_path / "name")
    assert publish_local(full, b"one", replace=False)
    assert not publish_local(full, b"two", replace=False)
    assert Path(full).read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["name"]


def test_what_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        publish_local(str(tmp_path / "name"), b"one", replace=False)
    assert os.listdir(tmp_path) == []


def test_a_link_that_leads_out_is_refused_and_one_that_stays_inside_is_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(b"inside")
    (root / "inside").symlink_to(root / "file")
    (root / "outside").symlink_to(tmp_path / "other")
    refuse_way_out(str(root), str(root / "inside"))
    with pytest.raises(ArtifactError, match="leads out of"):
        refuse_way_out(str(root), str(root / "outside"))
