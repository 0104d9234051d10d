from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edc_ray.artifacts.storage.store import open_store
from edc_ray.errors import ConfigError
from edc_ray.sharing.verify import has_proof, verify_folder


def test_a_damaged_file_is_named_once(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "digits")
    store = open_store(str(tmp_path / "digits"), writable=False)
    assert verify_folder(store) == []
    (tmp_path / "digits" / "squeeze" / "convnet_d1.safetensors").write_bytes(b"")
    assert [problem.path for problem in verify_folder(store)] == ["squeeze/convnet_d1.safetensors"]


def test_a_folder_that_states_nothing_of_its_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(ConfigError, match="says what its files should hold"):
        verify_folder(open_store(str(tmp_path), writable=False))


def test_a_run_without_a_finished_unit_has_nothing_to_compare(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("ipc: 1")
    store = open_store(str(tmp_path), writable=False)
    assert (verify_folder(store), has_proof(store)) == ([], False)
