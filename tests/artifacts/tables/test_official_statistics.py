"""The official tree of statistics, on trees that a test writes file by file."""

from __future__ import annotations

import io
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.official_statistics import (
    LayerShape,
    find_network_name,
    official_network_names,
    read_official_statistics,
    refuse_more_classes,
    write_official_statistics,
)
from edc_ray.errors import ArtifactError

LAYERS = (LayerShape("conv1", "conv", 3, 4), LayerShape("bn1", "bn", 5, 0), LayerShape("a.b", "conv", 2, 1))
KEYS = {
    "channel_mean": "running_dd_mean", "channel_variance": "running_dd_var",
    "patch_mean": "running_patch_mean", "patch_variance": "running_patch_var",
}  # fmt: skip
EXCHANGED = KEYS | {"patch_mean": KEYS["patch_variance"], "patch_variance": KEYS["patch_mean"]}
NAME = "ResNet_ResNet18"


def made_statistics(layers: tuple[LayerShape, ...], num_classes: int) -> dict[Any, dict[str, np.ndarray]]:
    """Rows as a reader gives them: different numbers everywhere."""
    rng, rows = np.random.default_rng(0), {}
    for layer in layers:
        scopes = {"global": (), "class": (num_classes,)}
        for scope, lead in scopes.items() if layer.kind == "conv" else [("class", scopes["class"])]:
            rows[layer.name, layer.kind, "official", scope] = {
                quantity: rng.random((*lead, length), np.float32)
                for quantity, length in layer.lengths.items()
            }
    return rows


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def write_as_the_official_program(root: Path, rows: dict[Any, dict[str, np.ndarray]], name: str) -> None:
    """By np.savez, with class patch means and variances under each other's key."""
    hooks = {"conv": "ConvFeatureHook", "bn": "BNFeatureHook"}
    for (layer, kind, _, scope), values in rows.items():
        count = len(values["channel_mean"]) if scope == "class" else 1
        for label in range(count):
            folder = root / hooks[kind] / (f"class_{label}" if scope == "class" else "") / f"{name}={layer}"
            folder.mkdir(parents=True)
            keys = EXCHANGED if scope == "class" else KEYS
            arrays = {
                keys[quantity]: array[label] if scope == "class" else array
                for quantity, array in values.items()
            }
            (folder / "running.npz").write_bytes(npz(arrays))


@pytest.fixture
def tree(tmp_path: Path) -> Store:
    write_as_the_official_program(tmp_path, made_statistics(LAYERS, 3), NAME)
    return open_store(str(tmp_path), writable=False)


def assert_same(found: Any, expected: Any) -> None:
    assert list(found) == list(expected)
    for key, values in expected.items():
        assert list(found[key]) == list(values)
        for quantity, array in values.items():
            np.testing.assert_array_equal(found[key][quantity], array, err_msg=f"{key} {quantity}")


def test_a_tree_is_read_as_one_array_for_each_layer_with_the_exchanged_keys_put_right(tree: Store) -> None:
    rows, _ = read_official_statistics(tree, NAME, LAYERS, range(3))
    assert_same(rows, made_statistics(LAYERS, 3))


def test_a_tree_of_a_hundred_classes_is_read_class_by_class(tmp_path: Path) -> None:
    write_as_the_official_program(tmp_path, made_statistics(LAYERS, 100), "ResNet")
    rows, _ = read_official_statistics(open_store(str(tmp_path)), "ResNet", LAYERS, range(100))
    assert_same(rows, made_statistics(LAYERS, 100))


def test_keys_that_are_said_not_to_be_exchanged_are_taken_as_they_are(tree: Store) -> None:
    rows, _ = read_official_statistics(tree, NAME, LAYERS, range(3), class_patch_swapped=False)
    by_class, made = rows["conv1", "conv", "official", "class"], made_statistics(LAYERS, 3)
    expected = made["conv1", "conv", "official", "class"]
    np.testing.assert_array_equal(by_class["patch_mean"], expected["patch_variance"])  # type: ignore[arg-type]
    np.testing.assert_array_equal(by_class["channel_mean"], expected["channel_mean"])  # type: ignore[arg-type]
    assert_same(
        {key: values for key, values in rows.items() if key[3] == "global"},
        {key: values for key, values in made.items() if key[3] == "global"},
    )


@pytest.mark.parametrize("swapped", [True, False])
def test_what_is_written_is_read_back(tmp_path: Path, swapped: bool) -> None:
    store, made = open_store(str(tmp_path)), made_statistics(LAYERS, 3)
    ours = made | {("bn1", "bn", "official", "global"): made["bn1", "bn", "official", "class"]}
    ours |= {("conv1", "conv", "pooled", "global"): made["conv1", "conv", "official", "global"]}
    assert write_official_statistics(store, NAME, ours, class_patch_swapped=swapped) == 2 + 3 * 3
    assert_same(read_official_statistics(store, NAME, LAYERS, range(3), class_patch_swapped=swapped)[0], made)


def test_what_is_written_equals_the_official_files_array_for_array(tree: Store, tmp_path: Path) -> None:
    ours = open_store(str(tmp_path / "ours"))
    write_official_statistics(ours, NAME, made_statistics(LAYERS, 3))
    assert ours.list() == [path for path in tree.list() if not path.startswith("ours/")]
    for path in ours.list():
        mine, official = (np.load(io.BytesIO(store.read(path)), allow_pickle=False) for store in (ours, tree))
        assert sorted(mine.files) == sorted(official.files)
        for key in mine.files:
            np.testing.assert_array_equal(mine[key], official[key], err_msg=f"{path} {key}")


def test_missing_files_are_counted_and_the_first_are_named(tree: Store) -> None:
    for label in (1, 2):
        for layer, hook in (("conv1", "Conv"), ("bn1", "BN"), ("a.b", "Conv")):
            tree.delete(f"{hook}FeatureHook/class_{label}/{NAME}={layer}/running.npz")
    with pytest.raises(ArtifactError, match=r"6 of the 11 files .* are missing") as caught:
        read_official_statistics(tree, NAME, LAYERS, range(3))
    assert f"no ConvFeatureHook/class_1/{NAME}=conv1/running.npz, " in str(caught.value)
    assert "and 1 more" in str(caught.value)


def test_class_files_may_be_absent_where_no_class_is_matched_but_not_in_part(tree: Store) -> None:
    for label in range(3):
        tree.delete(f"BNFeatureHook/class_{label}/{NAME}=bn1/running.npz")
    rows, _ = read_official_statistics(tree, NAME, LAYERS, range(3), needs_classes=False)
    made = made_statistics(LAYERS, 3)
    assert_same(rows, {key: values for key, values in made.items() if key[1] == "conv"})
    with pytest.raises(ArtifactError, match="3 of the 11 files"):
        read_official_statistics(tree, NAME, LAYERS, range(3))
    tree.delete(f"ConvFeatureHook/class_2/{NAME}=conv1/running.npz")
    with pytest.raises(ArtifactError, match="1 of the 8 files"):
        read_official_statistics(tree, NAME, LAYERS, range(3), needs_classes=False)


def test_statistics_of_another_size_name_file_key_and_lengths(tree: Store) -> None:
    wider = (LAYERS[0], LayerShape("bn1", "bn", 6, 0), LAYERS[2])
    with pytest.raises(ArtifactError, match="of another observer, or of images of another size") as caught:
        read_official_statistics(tree, NAME, wider, range(3))
    assert caught.value.found == "running_dd_mean [5]"
    assert caught.value.expected == "[6], as layer 'bn1' has"


def test_a_tree_of_more_classes_is_of_another_dataset(tree: Store) -> None:
    refuse_more_classes(tree, NAME, LAYERS, 3)
    with pytest.raises(ArtifactError, match="of another dataset") as caught:
        refuse_more_classes(tree, NAME, LAYERS, 2)
    assert caught.value.found == "ConvFeatureHook/class_2"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"no zip", "is damaged"),
        (npz({"running_dd_mean": np.zeros(3)}), "is no file of statistics"),
        (npz(dict.fromkeys(KEYS.values(), np.array([object()]))), "is damaged"),
        (npz({key: np.full(3 if "dd" in key else 4, np.nan) for key in KEYS.values()}), "NaN or Inf"),
    ],
)
def test_a_damaged_file_is_named(tree: Store, content: bytes, match: str) -> None:
    path = f"ConvFeatureHook/class_1/{NAME}=conv1/running.npz"
    (Path(tree.url) / path).write_bytes(content)
    with pytest.raises(ArtifactError, match=match) as caught:
        read_official_statistics(tree, NAME, LAYERS, range(3))
    assert path in str(caught.value)


def test_the_hash_covers_the_bytes_of_every_file(tree: Store) -> None:
    before = read_official_statistics(tree, NAME, LAYERS, range(3))[1]
    assert read_official_statistics(tree, NAME, LAYERS, range(3))[1] == before
    path = Path(tree.url) / f"BNFeatureHook/class_2/{NAME}=bn1/running.npz"
    path.write_bytes(npz({"running_dd_mean": np.ones(5), "running_dd_var": np.ones(5)}))
    assert read_official_statistics(tree, NAME, LAYERS, range(3))[1] != before


@pytest.mark.parametrize(
    ("network", "class_name", "names"),
    [
        ("resnet18_small", "ResNet", ("ResNet_ResNet18", "ResNet")),
        ("convnet_d1", "ConvNet", ("ConvNet_ConvNetD1", "ConvNet")),
        ("resnet18", "ResNet", ("ResNet",)),
        ("wide_resnet50_2", "ResNet", ("ResNet_wide_resnet50_2",)),
    ],
)
def test_a_network_has_the_names_of_both_kinds_of_trees(
    network: str, class_name: str, names: tuple[str, ...]
) -> None:
    assert official_network_names(network, class_name) == names


def test_the_name_that_a_tree_uses_is_found_and_a_stranger_is_not(tree: Store) -> None:
    assert find_network_name(tree, ("ResNet", NAME), LAYERS) == NAME
    with pytest.raises(ArtifactError, match="no official statistics of a network ConvNet"):
        find_network_name(tree, ("ConvNet",), LAYERS)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_one_observer_of_a_thousand_classes_and_391_layers_is_read(tmp_path: Path) -> None:
    """391 214 files. Layers of a kind hold the same numbers: zipping them all takes longer than reading."""
    conv, bn = LayerShape("layer0", "conv", 4, 2), LayerShape("layer214", "bn", 4, 0)
    layers = tuple(
        LayerShape(f"layer{n}", "conv", 4, 2) if n < 214 else LayerShape(f"layer{n}", "bn", 4, 0)
        for n in range(391)
    )
    made = made_statistics((conv, bn), 1000)
    first = tmp_path / "first"
    write_as_the_official_program(first, made, "ResNet")
    for path in sorted(first.rglob("running.npz")):
        relative, kind = path.relative_to(first).parent, "conv" if "Conv" in str(path) else "bn"
        data = path.read_bytes()
        for layer in layers:
            if layer.kind == kind:
                folder = tmp_path / "tree" / relative.parent / f"ResNet={layer.name}"
                folder.mkdir(parents=True)
                (folder / "running.npz").write_bytes(data)
    store = open_store(str(tmp_path / "tree"), writable=False)
    started = time.monotonic()
    rows, _ = read_official_statistics(store, "ResNet", layers, range(1000))
    print(f"391214 files read in {time.monotonic() - started:.0f} s")
    of_kind = {"conv": "layer0", "bn": "layer214"}
    expected = {
        (layer.name, layer.kind, "official", scope): made[of_kind[layer.kind], layer.kind, "official", scope]
        for layer in layers
        for scope in (("global", "class") if layer.kind == "conv" else ("class",))
    }
    assert_same(rows, expected)
    shutil.rmtree(tmp_path / "tree")  # gigabytes of blocks; pytest keeps the folders of three sessions
