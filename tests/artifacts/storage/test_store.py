from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.errors import ArtifactError, ConfigError


def test_what_is_published_is_read_back_listed_and_deleted(store: Store) -> None:
    assert store.list() == []
    assert store.publish("labels/b.parquet", b"bb")
    assert store.publish("labels/records/a.json", b"")
    assert store.read("labels/b.parquet") == b"bb"
    assert (store.size("labels/b.parquet"), store.size("labels/records/a.json")) == (2, 0)
    assert store.list("labels") == store.list() == ["labels/b.parquet", "labels/records/a.json"]
    store.delete("labels/b.parquet")
    store.delete("labels/b.parquet")
    assert not store.exists("labels/b.parquet")
    assert store.list("nowhere") == []


def test_an_existing_name_keeps_its_bytes_unless_replaced(store: Store) -> None:
    assert store.publish("a", b"first")
    assert not store.publish("a", b"second")
    assert store.read("a") == b"first"
    assert store.publish("a", b"third", replace=True)
    assert store.read("a") == b"third"


def test_a_folder_is_not_a_file(store: Store) -> None:
    store.publish("folder/file", b"x")
    assert not store.exists("folder")
    assert store.size("folder") is None
    with pytest.raises(ArtifactError, match="folder is missing"):
        store.read("folder")


def test_a_missing_file_is_named_with_its_url(store: Store) -> None:
    with pytest.raises(ArtifactError, match=r"condensed/x\.parquet is missing") as caught:
        store.read("condensed/x.parquet")
    assert store.join("condensed/x.parquet") in str(caught.value)


def test_a_folder_with_a_longer_name_is_not_listed(store: Store) -> None:
    store.publish("labels2/x", b"x")
    store.publish("labels/y", b"y")
    assert store.list("labels") == ["labels/y"]


def test_files_written_through_another_connection_are_seen(store: Store) -> None:
    assert store.list() == []
    assert not store.exists("a/b")
    other = fsspec.filesystem(
        store.url.split("://")[0] if "://" in store.url else "file", skip_instance_cache=True
    )
    if store.is_local:
        os.makedirs(f"{store.url}/a")
    other.pipe_file(store.join("a/b"), b"x")
    assert store.exists("a/b")
    assert store.list() == ["a/b"]


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "a\\b", "", ".", "a//b", "./a", "s3://b/x", "a\0"]
)
def test_a_path_that_leaves_the_store_is_refused(local_store: Store, path: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: local_store.read(path),
        lambda: local_store.publish(path, b"x"),
        lambda: local_store.delete(path),
        lambda: local_store.exists(path),
    ]
    for call in calls:
        with pytest.raises(ArtifactError, match="not a path inside the store"):
            call()


def test_eight_writers_at_once_have_one_winner(store: Store) -> None:
    if store.url.startswith("memory"):
        pytest.skip("a dictionary of one process, used without concurrency")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.publish("race", bytes([number]) * 1000), range(8)))
    assert sum(won) == 1
    assert store.read("race") == bytes([won.index(True)]) * 1000


@pytest.mark.parametrize("refusal", [FileExistsError("there"), OSError(errno.EINVAL, "None")])
def test_what_was_refused_for_a_file_that_is_gone_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, refusal: OSError
) -> None:
    """Another writer created it and took it back between request and answer, as when it replaces a unit."""
    refusals, real = [refusal], MemoryFileSystem.pipe_file

    def pipe_file(self: MemoryFileSystem, *args: Any, **options: Any) -> None:
        if refusals:
            raise refusals.pop()
        real(self, *args, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    store = open_store(f"memory://{uuid.uuid4().hex}", writable=False)
    assert store.publish("a", b"x")
    assert store.read("a") == b"x"
    refusals += [refusal] * 9
    with pytest.raises(ArtifactError, match="cannot write"):
        store.publish("b", b"x")
    refusals[:] = [PermissionError("no")] * 2
    with pytest.raises(ArtifactError, match="no"):
        store.publish("c", b"x")
    assert len(refusals) == 1


def test_a_pickled_store_reaches_the_same_files(store: Store) -> None:
    store.publish("a", b"x")
    assert pickle.loads(pickle.dumps(store)).read("a") == b"x"


def test_a_relative_path_and_a_file_url_become_one_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("runs/a").url == str(tmp_path / "runs" / "a")
    assert open_store(f"file://{tmp_path}/runs/a/").url == str(tmp_path / "runs" / "a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ArtifactError, match="cannot write"):
        open_store(str(tmp_path / "run"))
    tmp_path.chmod(0o700)


def test_a_root_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"cannot write .*file/run"):
        open_store(str(tmp_path / "file" / "run"))


@pytest.mark.parametrize(
    ("root", "match"),
    [
        ("nosuch://x/y", "cannot be opened"),
        ("simplecache::s3://x", "chained"),
        ("", "empty"),
        ("sftp://me:hunter2@host/x", "password"),
    ],
)
def test_a_root_that_cannot_be_used_is_refused_without_showing_secrets(root: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        open_store(root)
    assert "hunter2" not in str(caught.value)


def test_options_are_never_shown(s3_url: str) -> None:
    options = {"key": "AKIAKEY", "secret": "hunter2"}
    store = Store(s3_url, options)
    assert "hunter2" not in repr(store)
    missing = open_store(s3_url.replace("bucket-of-tests", "absent"), options, writable=False)
    with pytest.raises(ArtifactError, match="cannot write") as caught:
        missing.check_writable()
    assert "hunter2" not in str(caught.value)
    assert "AKIAKEY" not in str(caught.value)


def test_an_error_without_words_is_told_with_those_of_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """As s3fs translates what Ceph answers."""

    def fails(*_: Any, **__: Any) -> None:
        raise PermissionError(None) from OSError(
            "(SignatureDoesNotMatch) when calling ListObjectsV2: hunter2"
        )

    store = Store("memory://wordless/run", {"secret": "hunter2"})
    monkeypatch.setattr(MemoryFileSystem, "find", fails)
    with pytest.raises(ArtifactError, match=r"PermissionError: \(SignatureDoesNotMatch\)") as caught:
        store.list()
    assert "hunter2" not in str(caught.value)


def test_a_reader_does_not_write(tmp_path: Path) -> None:
    open_store(str(tmp_path / "run"), writable=False)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_leaves_no_temporary_file(local_store: Store) -> None:
    local_store.publish("a/b", b"x")
    local_store.publish("a/b", b"y")
    local_store.publish("a/b", b"z", replace=True)
    assert os.listdir(f"{local_store.url}/a") == ["b"]
    assert local_store.leftovers() == []


def test_a_file_system_without_hard_links_still_gets_whole_files(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    assert local_store.publish("a", b"x")
    assert not local_store.publish("a", b"y")
    assert local_store.read("a") == b"x"


def test_a_full_disk_is_an_error_and_leaves_nothing(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ArtifactError, match="No space left"):
        local_store.publish("a", b"x")
    assert os.listdir(local_store.url) == []


def test_a_server_that_answers_einval_to_an_existing_name_is_understood(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3_url)
    store.publish("a", b"first")
    fs = fsspec.url_to_fs(s3_url)[0]
    answers = iter([False])
    real = Store.exists
    monkeypatch.setattr(Store, "exists", lambda self, path: next(answers, None) is None and real(self, path))

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(fs, "pipe_file", refuse)
    assert store.publish("a", b"second") is False


CRASH = """
import os, signal, sys
from edc_ray.artifacts.storage.store import open_store
store = open_store(sys.argv[1])
setattr(os, sys.argv[2], lambda *args: os.kill(os.getpid(), signal.SIGKILL))
store.publish("folder/a", b"x" * 1000, replace=sys.argv[2] == "replace")
"""


@pytest.mark.parametrize("at", ["fsync", "link", "replace"])
def test_a_killed_writer_leaves_no_half_file_and_the_next_one_succeeds(local_store: Store, at: str) -> None:
    local_store.publish("folder/b", b"before")
    command = [sys.executable, "-c", CRASH, local_store.url, at]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert local_store.list() == ["folder/b"]
    assert not local_store.exists("folder/a")
    assert len(local_store.leftovers()) == 1
    assert local_store.publish("folder/a", b"whole")
    for path in local_store.leftovers():
        local_store.delete(path)
    assert sorted(os.listdir(f"{local_store.url}/folder")) == ["a", "b"]
