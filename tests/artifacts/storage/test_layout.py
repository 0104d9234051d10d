from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edc_ray.artifacts.storage import layout


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


@given(st.text(min_size=1))
@example("timm:resnet18.a1_in1k")
@example("my.networks:deep/er")
@example("a=3Ab")
@example("Größe")
def test_the_key_of_a_network_is_a_file_name_from_which_the_name_can_be_told(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair is no text
        return
    key = layout.network_key(name)
    assert unquote(key.replace("=", "%")) == name
    assert layout.record_path("squeeze", f"x{key}") == f"squeeze/records/x{key}.json"


def test_plain_names_of_networks_are_their_own_keys() -> None:
    assert layout.network_key("shufflenet_v2_x0_5_small") == "shufflenet_v2_x0_5_small"
    assert layout.network_name("timm:resnet18") == "timm=3Aresnet18.safetensors"
    assert layout.arrays_name("a:b", layout.batches_key(0, 1)) == "a=3Ab_batches-000000-000001.npz"
