import pickle

import numpy as np
import pytest
import torch

from edc_ray.config.dataset import Resize
from edc_ray.data.real.images import DenseImages, EncodedImages
from edc_ray.data.real.undecoded import Decoding, MemoryReader
from tests.data.made_images import synthetic_images


@pytest.fixture(scope="module")
def dense() -> DenseImages:
    return synthetic_images(3, 4, 8, 3)


@pytest.fixture(scope="module")
def encoded(dense: DenseImages) -> EncodedImages:
    reader = MemoryReader(dense.images.transpose(0, 2, 3, 1), "fake")
    rows = np.arange(len(dense))
    return EncodedImages(reader, rows, dense.labels, dense.class_names, Decoding(3, 8))


def test_encoded_and_dense_sets_of_the_same_images_fetch_the_same_pixels(dense, encoded) -> None:
    indices = [7, 0, 7, 11]
    assert np.array_equal(dense.fetch(indices), encoded.fetch(indices))
    assert np.array_equal(dense.subset([3, 1]).fetch([1]), encoded.subset([3, 1]).fetch([1]))


@pytest.mark.parametrize("kind", ["dense", "encoded"])
def test_a_set_knows_its_classes_and_subsets(kind: str, request) -> None:
    images = request.getfixturevalue(kind)
    assert (len(images), images.channels, images.image_size) == (12, 3, 8)
    assert images.class_indices(1).tolist() == [4, 5, 6, 7]
    part = images.subset(images.class_indices(2))
    assert part.labels.tolist() == [2] * 4
    assert part.class_names == images.class_names


@pytest.mark.parametrize("kind", ["dense", "encoded"])
def test_content_hash_follows_content_and_survives_pickling(kind: str, request) -> None:
    images = request.getfixturevalue(kind)
    expected = images.content_hash
    assert pickle.loads(pickle.dumps(images)).content_hash == expected
    assert images.subset(range(12)).content_hash == expected
    assert images.subset(range(11)).content_hash != expected
    assert images.subset([1, 0, *range(2, 12)]).content_hash != expected


def test_a_set_of_whole_pictures_shows_them_beside_their_squares() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (4, 6, 9, 3), dtype=np.uint8)
    reader, rows, labels = MemoryReader(wide, "wide"), np.arange(4), np.array([0, 0, 1, 1])

    def images(resize: Resize = "shorter_side", *, whole: bool = False) -> EncodedImages:
        return EncodedImages(reader, rows, labels, ("a", "b"), Decoding(3, 6, resize), whole=whole)

    whole, square = images("square", whole=True), images("square")
    assert np.array_equal(whole.fetch([2, 0]), square.fetch([2, 0]))
    for one, shown in ((whole.subset([3, 1]), wide.transpose(0, 3, 1, 2)), (square.subset([3, 1]), None)):
        found = one.map_pictures(
            torch.device("cpu"), np.array([1, 0]), lambda position, picture: (position, picture.numpy())
        )
        expected = square.fetch([1, 3]) if shown is None else shown[[1, 3]]
        assert [position for position, _ in found] == [0, 1]
        assert all(np.array_equal(a, b) for (_, a), b in zip(found, expected, strict=True))
    assert len({one.content_hash for one in (whole, square, images())}) == 3


def test_content_hash_covers_labels_and_names(dense: DenseImages) -> None:
    hashes = {
        dense.content_hash,
        DenseImages(dense.images, dense.labels[::-1], dense.class_names).content_hash,
        DenseImages(dense.images, dense.labels, ("a", "b", "c")).content_hash,
    }
    assert len(hashes) == 3


def test_fetched_images_are_a_copy(dense: DenseImages) -> None:
    before = dense.content_hash
    dense.fetch([0])[:] = 0
    assert dense.subset(range(12)).content_hash == before


def test_a_mask_is_not_taken_for_indices(dense: DenseImages) -> None:
    with pytest.raises(ValueError, match="flatnonzero"):
        dense.fetch(dense.labels == 1)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 3, 8, 8), np.float32), [0, 1]),
        (np.zeros((2, 3, 8, 9), np.uint8), [0, 1]),
        (np.zeros((2, 3, 8, 8), np.uint8), [0]),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(images: np.ndarray, labels: list[int]) -> None:
    with pytest.raises(ValueError, match="images"):
        DenseImages(images, labels, ("a", "b"))


def test_how_images_are_resized_shows_in_pixels_hash_and_subsets() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 12, 9, 3), dtype=np.uint8)
    reader, rows = MemoryReader(pixels, "fake"), np.arange(3)
    sets = [
        EncodedImages(reader, rows, rows, ("a", "b", "c"), Decoding(3, 7, how))
        for how in ("shorter_side", "centre_crop", "square")
    ]
    assert len({images.content_hash for images in sets}) == 3
    assert len({images.fetch([1]).tobytes() for images in sets}) == 3
    for images in sets:
        assert np.array_equal(images.subset([2, 1]).fetch([1]), images.fetch([1]))


def test_a_class_has_a_hash_of_its_own_images_wherever_it_stands(
    dense: DenseImages, encoded: EncodedImages
) -> None:
    for images in (dense, encoded):
        turned = images.subset(
            [8, 0, 9, 1, 10, 2, 11, 3]
        )  # without the middle class, the last and first mixed
        assert (turned.class_hashes[0], turned.class_hashes[2]) == images.class_hashes[::2]
        assert len(set(images.class_hashes)) == 3
        in_other_order = images.subset([1, 0, 2, 3])
        assert in_other_order.class_hashes[0] != images.class_hashes[0]
    changed = DenseImages(dense.images.copy(), dense.labels, dense.class_names)
    changed.images[5, 0, 0, 0] ^= 1
    same = [a == b for a, b in zip(changed.class_hashes, dense.class_hashes, strict=True)]
    assert same == [True, False, True]
