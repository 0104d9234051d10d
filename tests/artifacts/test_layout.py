from __future__ import annotations

import pytest

from edc_ray.artifacts import layout


def test_paths_follow_the_tree_of_a_run() -> None:
    key = layout.block_key(0, 9, 10, 19)
    assert (
        layout.record_path("condensed", key) == "condensed/records/classes-00000-00009_ipc-00010-00019.json"
    )
    assert layout.manifest_path("condensed") == "condensed/manifest.json"
    assert layout.manifest_path("") == "manifest.json"


def test_keys_sort_as_the_plan_does() -> None:
    keys = [layout.epochs_key(first, first + 9) for first in range(0, 2000, 10)]
    assert keys == sorted(keys)


@pytest.mark.parametrize("key", ["", "../up", "a/b", ".hidden", "a b", "a\n"])
def test_a_unit_key_that_is_no_file_name_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="unit key"):
        layout.record_path("condensed", key)
