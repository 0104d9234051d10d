import io
import itertools
import os
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from edc_ray.config.dataset import DatasetSpec
from edc_ray.data.real.images import DenseImages, EncodedImages
from edc_ray.data.real.sources import OpenedDataset, open_dataset
from edc_ray.errors import ConfigError, DataError
from tests.data.made_images import synthetic_images, write_image_folder, write_parquet

IMAGES = synthetic_images(3, 6, 8, 3)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> str:
    root = str(tmp_path_factory.mktemp("tree"))
    write_image_folder(IMAGES, root)
    return root


@pytest.fixture(scope="module")
def copy_of_tree(tmp_path_factory) -> str:
    root = str(tmp_path_factory.mktemp("copy"))
    write_image_folder(IMAGES, root)
    return root


def _spec(source: str | None, **fields: Any) -> DatasetSpec:
    return DatasetSpec.model_validate({"train": source, **fields})


def _open(source: str | None, **fields: Any) -> OpenedDataset:
    return open_dataset(_spec(source, **fields), seed=1)


def test_digits_are_described_and_split_by_class() -> None:
    opened = _open("sklearn:digits", val_fraction=0.25)
    spec = opened.spec
    assert (spec.num_classes, spec.image_size, spec.channels) == (10, 8, 1)
    assert spec.class_names == tuple("0123456789")
    assert len(opened.train) + len(opened.val) == 1797
    shares = np.bincount(opened.val.labels) / (
        np.bincount(opened.train.labels) + np.bincount(opened.val.labels)
    )
    np.testing.assert_allclose(shares, 0.25, atol=0.005)


def test_opening_a_resolved_spec_gives_the_same_sets(tree: str) -> None:
    first = _open(tree, max_per_class=3)
    again = open_dataset(first.spec, seed=1)
    assert again.spec == first.spec
    assert again.train.content_hash == first.train.content_hash
    assert again.val.content_hash == first.val.content_hash


def test_held_out_images_follow_the_seed_and_ignore_the_limit(tree: str) -> None:
    spec = _spec(tree, val_fraction=0.5)
    val = open_dataset(spec, seed=1).val
    limited = open_dataset(spec.model_copy(update={"max_per_class": 1}), seed=1)
    assert limited.val.content_hash == val.content_hash
    assert np.bincount(limited.train.labels).tolist() == [1, 1, 1]
    assert open_dataset(spec, seed=2).val.content_hash != val.content_hash


def test_training_and_held_out_images_share_none(tree: str) -> None:
    opened = _open(tree, val_fraction=0.3)
    everything = [*opened.train.fetch(range(len(opened.train))), *opened.val.fetch(range(len(opened.val)))]
    assert len({image.tobytes() for image in everything}) == len(IMAGES)


def test_every_kind_of_source_gives_the_same_images(tree: str, copy_of_tree: str, tmp_path: Path) -> None:
    os.symlink(tree, tmp_path / "linked")
    os.makedirs(tmp_path / "links")
    for name in IMAGES.class_names:
        os.symlink(f"{tree}/{name}", tmp_path / "links" / name)
    write_parquet(IMAGES, f"{tmp_path}/table/part-0.parquet".replace("/table", ""))
    os.makedirs(tmp_path / "hub/data")
    write_parquet(IMAGES, f"{tmp_path}/hub/data/train-00000-of-00001.parquet", row_group_size=5)
    write_parquet(synthetic_images(3, 1, 8), f"{tmp_path}/hub/data/test-00000-of-00001.parquet")
    write_image_folder(IMAGES, "memory://sources-tree")
    sources = [
        tree, f"file://{tree}", f"{tree}/*/*.png", f"{tmp_path}/linked", f"{tmp_path}/links", "memory://sources-tree",
        f"{tmp_path}/part-0.parquet", f"{tmp_path}/*.parquet", f"{tmp_path}/hub",
    ]  # fmt: skip
    hashes = {source: _open(source, val=copy_of_tree).train.content_hash for source in sources}
    assert hashes == dict.fromkeys(sources, IMAGES.content_hash)


def test_a_hub_folder_as_validation_takes_its_test_split(tmp_path: Path) -> None:
    write_parquet(IMAGES, f"{tmp_path}/train-0.parquet")
    write_parquet(synthetic_images(3, 1, 8), f"{tmp_path}/test-0.parquet")
    opened = _open(str(tmp_path), val=str(tmp_path))
    assert (len(opened.train), len(opened.val)) == (18, 3)


@pytest.mark.parametrize(
    ("files", "train", "val", "shared"),
    [
        (["a", "b"], "", "", 2),
        (["train-0", "test-0", "more"], "", "/train-0.parquet", 1),
        (["a", "b"], "/*.parquet", "/b.parquet", 1),
        (["a"], "/a.parquet", "/a.parquet", 1),
    ],
)
@pytest.mark.parametrize("place", ["folder", "memory"])
def test_a_parquet_file_in_both_sets_is_refused(
    tmp_path: Path, place: str, files: list[str], train: str, val: str, shared: int
) -> None:
    folder = str(tmp_path) if place == "folder" else f"memory://{tmp_path.name}"
    for name in files:
        write_parquet(IMAGES, f"{folder}/{name}.parquet")
    with pytest.raises(DataError, match=rf"(?s)share files.* {shared} in both, such as .*\.parquet"):
        # The limit makes the two sets differ in what they hold.
        _open(f"{folder}{train}", val=f"file://{folder}{val}" if place == "folder" else f"{folder}{val}",
              max_val_per_class=1)  # fmt: skip


def test_an_image_file_in_both_sets_is_refused(tree: str, copy_of_tree: str) -> None:
    with pytest.raises(DataError, match=r"(?s)share files.* 6 in both, such as .*class1.*\.png"):
        _open(tree, val=f"{tree}/class1/*.png")
    assert len(_open(tree, val=copy_of_tree).val) == 18


@pytest.mark.parametrize("source", ["tree", "table"])
def test_a_set_over_the_memory_limit_is_decoded_on_demand_alike(
    tree: str, copy_of_tree: str, tmp_path: Path, source: str
) -> None:
    if source == "table":
        write_parquet(IMAGES, f"{tmp_path}/x.parquet", row_group_size=4)
    spec = _spec(tree if source == "tree" else f"{tmp_path}/x.parquet", val=copy_of_tree)
    dense = open_dataset(spec, seed=1)
    encoded = open_dataset(spec, seed=1, memory_limit=100)
    assert isinstance(dense.train, DenseImages)
    assert isinstance(encoded.train, EncodedImages)
    assert encoded.spec == dense.spec
    indices = [17, 3, 3, 8]
    assert np.array_equal(dense.train.fetch(indices), encoded.train.fetch(indices))


def test_given_class_names_select_from_both_sets(tree: str, copy_of_tree: str) -> None:
    opened = _open(tree, val=copy_of_tree, class_names=("class2", "class0"))
    assert opened.spec.num_classes == 2
    assert opened.train.labels.tolist() == [1] * 6 + [0] * 6
    assert opened.val.content_hash == opened.train.content_hash


def test_given_size_channels_and_mean_are_kept() -> None:
    opened = _open("sklearn:digits", image_size=12, channels=3, mean=(0.1, 0.2, 0.3), max_per_class=2)
    assert opened.train.fetch([0]).shape == (1, 3, 12, 12)
    assert opened.spec.mean == (0.1, 0.2, 0.3)
    assert len(opened.spec.std or ()) == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such/folder", "nothing at /no/such/folder"),
        ("memory://no-such-folder", "nothing at memory://no-such-folder"),
        ("/no/such/*.png", "no images in"),
        ("sklearn:iris", "sklearn:digits"),
        ("nosuchscheme://host/x", r"cannot open nosuchscheme://host/x"),
    ],
)
def test_a_missing_source_is_refused(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _open(source)


def test_a_spec_without_training_images_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set dataset\.train"):
        _open(None)


@pytest.mark.parametrize("memory_limit", [1 << 30, 100])
def test_a_corrupt_file_is_named(memory_limit: int) -> None:
    write_image_folder(IMAGES, "memory://sources-corrupt")
    fsspec.filesystem("memory").pipe_file("/sources-corrupt/class1/00007.png", b"junk")
    with pytest.raises(DataError, match=r"class1/00007\.png"):
        open_dataset(_spec("memory://sources-corrupt"), seed=1, memory_limit=memory_limit)


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    write_image_folder(synthetic_images(2, 2, 8), str(tmp_path))
    os.makedirs(tmp_path / "class9")
    with pytest.raises(DataError, match=r"1 of 3 classes have no image(.|\n)*'class9'"):
        _open(str(tmp_path))


def test_validation_of_other_classes_is_refused(tree: str, tmp_path: Path) -> None:
    write_image_folder(synthetic_images(4, 2, 8), str(tmp_path))
    with pytest.raises(DataError, match=r"different classes(.|\n)*with 'class3'"):
        _open(tree, val=str(tmp_path))


def _names(images: DenseImages, names: list[str], path: Path) -> None:
    table = {
        "image": [_png(pixels) for pixels in images.images],
        "label": [names[label] for label in images.labels],
    }
    pq.write_table(pa.table(table), path)


def test_a_class_that_validation_lacks_is_a_warning_for_names_numbers_and_folders(
    tree: str, tmp_path: Path, caplog
) -> None:
    fewer = synthetic_images(2, 2, 8)
    write_image_folder(fewer, f"{tmp_path}/val")
    opened = _open(tree, val=f"{tmp_path}/val")
    _names(IMAGES, ["a", "b", "c"], tmp_path / "train.parquet")
    _names(fewer, ["a", "c"], tmp_path / "test.parquet")
    named = _open(f"{tmp_path}/train.parquet", val=f"{tmp_path}/test.parquet")
    assert (len(opened.val), named.val.labels.tolist()) == (4, [0, 0, 2, 2])
    assert "no validation image of 1 of 3 classes: 'class2'" in caplog.text
    assert "no validation image of 1 of 3 classes: 'b'" in caplog.text


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("layout", ["folders", "hub"])
def test_a_folder_of_splits_gives_training_and_validation_images(tmp_path: Path, layout: str) -> None:
    held = synthetic_images(3, 2, 8, seed=1)
    if layout == "folders":
        write_image_folder(IMAGES, f"{tmp_path}/train")
        write_image_folder(held, f"{tmp_path}/test")
    else:
        for split, images in (("train", IMAGES), ("test", held)):
            os.makedirs(tmp_path / "default" / split)
            write_parquet(images, f"{tmp_path}/default/{split}/0000.parquet")
    opened = _open(str(tmp_path))
    assert opened.train.content_hash == IMAGES.content_hash
    assert opened.val.content_hash == held.content_hash
    again = open_dataset(opened.spec, seed=1)
    assert again.val.content_hash == held.content_hash


def test_test_images_are_never_trained_on(tmp_path: Path) -> None:
    write_image_folder(IMAGES, f"{tmp_path}/test")
    with pytest.raises(DataError, match="which files hold the training images"):
        _open(str(tmp_path))
    write_parquet(IMAGES, f"{tmp_path}/more-test-0.parquet")
    with pytest.raises(DataError, match="which files hold the training images"):
        _open(str(tmp_path))


def test_hidden_folders_hold_no_data(tmp_path: Path) -> None:
    write_image_folder(IMAGES, str(tmp_path))
    write_image_folder(IMAGES, f"{tmp_path}/.git")
    write_image_folder(synthetic_images(1, 1, 8), f"{tmp_path}/class0/.ipynb_checkpoints")
    (tmp_path / "._data.parquet").write_bytes(b"x")
    opened = _open(str(tmp_path), val=None)
    assert len(opened.train) + len(opened.val) == len(IMAGES)


def test_images_that_are_not_read_are_counted_and_named(tmp_path: Path, caplog) -> None:
    write_image_folder(IMAGES, str(tmp_path))
    for name in ("a.tif", "b.tiff", "c.avif"):
        (tmp_path / "class0" / name).write_bytes(b"x")
    _open(str(tmp_path))
    assert "left out files that are not read: .avif, .tif, .tiff, such as class0/a.tif (3)" in caplog.text


@pytest.mark.parametrize("memory_limit", [1 << 30, 100])
def test_bad_images_are_listed_at_once_or_skipped_and_recorded(memory_limit: int, caplog) -> None:
    root = f"memory://sources-bad-{memory_limit}"
    write_image_folder(IMAGES, root)
    files = fsspec.filesystem("memory")
    cut = files.cat_file(f"{root}/class1/00008.png")[:80]
    for name, content in (("class0/00002", b"junk"), ("class1/00007", b""), ("class1/00008", cut)):
        files.pipe_file(f"{root}/{name}.png", content)

    def opened(**fields: Any) -> OpenedDataset:
        spec = _spec(root, val_fraction=0.01, **fields)
        return open_dataset(spec, seed=1, memory_limit=memory_limit)

    with pytest.raises(
        DataError, match=r"(?s)cannot decode 3 images.*00002.*00007.*00008.*on_bad_image=skip"
    ):
        opened()
    with pytest.raises(DataError, match=r"more than dataset\.max_bad_images=1"):
        opened(on_bad_image="skip", max_bad_images=1)
    data = opened(on_bad_image="skip")
    assert len(data.train) + len(data.val) == len(IMAGES) - 3
    named = sorted(name.rpartition("/")[2] for name in (*data.bad_train, *data.bad_val))
    assert named == ["00002.png", "00007.png", "00008.png"]
    assert "left out images that cannot be decoded" in caplog.text
    assert data.train.fetch(range(len(data.train))).shape[0] == len(data.train)


def test_a_turned_photograph_is_another_image_than_the_stored_one(tmp_path: Path) -> None:
    for name, tag in (("turned", 6), ("plain", 1)):
        for label in range(2):
            os.makedirs(tmp_path / name / f"c{label}")
            for index in range(3):
                exif = Image.Exif()
                exif[0x0112] = tag
                pixels = np.full((8, 16, 3), 40 * index + 100 * label, np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / f"c{label}" / f"{index}.jpg", exif=exif)

    def hashes(name: str, memory_limit: int, **fields: Any) -> str:
        return open_dataset(
            _spec(f"{tmp_path}/{name}", **fields), 1, memory_limit=memory_limit
        ).train.content_hash

    # On demand only names and sizes are hashed, so that the two folders would be one set.
    assert hashes("plain", 100) != hashes("turned", 100)
    assert hashes("plain", 100) == hashes("plain", 100, transparency="ignore")


def test_a_class_with_one_image_cannot_be_split(tmp_path: Path) -> None:
    write_image_folder(synthetic_images(2, 1, 8), str(tmp_path))
    with pytest.raises(DataError, match=r"'class0' can be held out(.|\n)*give dataset\.val"):
        _open(str(tmp_path))


@pytest.mark.parametrize("memory_limit", [0, 1 << 30])
def test_validation_images_are_resized_as_asked_and_training_images_as_ever(
    tmp_path: Path, memory_limit: int
) -> None:
    rng = np.random.default_rng(0)
    for role, label, number in itertools.product(("train", "val"), ("a", "b"), range(3)):
        folder = tmp_path / role / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    places = {"train": str(tmp_path / "train"), "val": str(tmp_path / "val"), "image_size": 14}
    plain, centre = (
        open_dataset(DatasetSpec.model_validate(places | how), 0, memory_limit=memory_limit)
        for how in ({}, {"val_resize": "centre_crop"})
    )
    assert plain.train.content_hash == centre.train.content_hash
    assert plain.val.content_hash != centre.val.content_hash
    assert np.array_equal(plain.train.fetch([0]), centre.train.fetch([0]))
    assert not np.array_equal(plain.val.fetch([0]), centre.val.fetch([0]))


@pytest.mark.parametrize("how", ["shorter_side", "square", "whole"])
def test_images_that_are_squares_are_the_same_however_others_would_be_resized(tree: str, how: str) -> None:
    usual, opened = _open(tree), _open(tree, train_resize=how)
    assert isinstance(opened.train, DenseImages)
    assert (opened.train.content_hash, opened.train.whole) == (usual.train.content_hash, False)


def test_training_images_are_cropped_squashed_or_kept_whole(tmp_path: Path) -> None:
    """The middle of each picture is black, what lies beside its central square is white."""
    for label, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for number in range(2):
            pixels = np.full((8, 16, 3), 255, np.uint8)
            pixels[:, 4:12] = 40 * label + number
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    opened = {
        how: _open(str(tmp_path), train_resize=how, val_fraction=0.5, mean=(0.5,) * 3, std=(0.5,) * 3)
        for how in ("shorter_side", "square", "whole")
    }
    pixels = {how: one.train.fetch([0]) for how, one in opened.items()}
    assert pixels["shorter_side"].max() < 100 < 250 < pixels["square"].max()
    np.testing.assert_array_equal(pixels["whole"], pixels["square"])
    assert [type(one.train) for one in opened.values()] == [DenseImages, DenseImages, EncodedImages]
    first, cpu = np.array([0]), torch.device("cpu")
    shapes = {how: one.train.map_pictures(cpu, first, lambda _, p: p.shape) for how, one in opened.items()}
    assert shapes == {"shorter_side": [(3, 8, 8)], "square": [(3, 8, 8)], "whole": [(3, 8, 16)]}
    assert len({one.train.content_hash for one in opened.values()}) == 3
    assert len({one.val.content_hash for one in opened.values()}) == 1


def test_sets_that_a_device_decodes_are_other_sets_described_by_the_same_numbers(tree: str) -> None:
    pillow, device = (
        open_dataset(_spec(tree, decoder=decoder), seed=1, memory_limit=100)
        for decoder in ("pillow", "device")
    )
    assert device.spec.mean == pillow.spec.mean
    assert device.train.content_hash != pillow.train.content_hash
    assert device.val.content_hash != pillow.val.content_hash
    held_decoded = _open(tree, decoder="device")  # Pillow decodes it once
    assert held_decoded.train.content_hash == _open(tree).train.content_hash


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_and_a_parquet_file_of_the_same_images_read_as_the_same(
    tmp_path: Path, channels: int
) -> None:
    images = synthetic_images(3, 4, 8, channels)
    write_image_folder(images, f"{tmp_path}/tree")
    write_parquet(images, f"{tmp_path}/table.parquet")
    opened = _open(f"{tmp_path}/tree", val=f"{tmp_path}/table.parquet")
    assert opened.train.content_hash == opened.val.content_hash == images.content_hash
