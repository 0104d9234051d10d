from types import SimpleNamespace

import numpy as np
import pytest
from torchvision import datasets

from edc_ray.data.real.named import read_digits, read_torchvision
from edc_ray.errors import DataError


def test_digits_span_all_grey_values() -> None:
    digits = read_digits("train")
    pixels = np.stack([np.asarray(item) for item in digits.reader.read(digits.rows)])
    assert pixels.shape == (1797, 8, 8)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert digits.class_names == tuple("0123456789")


def test_digits_have_no_validation_split() -> None:
    with pytest.raises(DataError, match=r"no validation split(.|\n)*dataset\.val unset"):
        read_digits("val")


@pytest.mark.parametrize(("role", "first"), [("train", 7), ("val", 9)])
def test_validation_is_the_test_split(monkeypatch, role: str, first: int) -> None:
    def fake(root: str, train: bool, download: bool) -> SimpleNamespace:
        data = np.full((2, 4, 4, 3), 7 if train else 9, np.uint8)
        return SimpleNamespace(data=data, targets=[1, 0], classes=["a", "b"])

    monkeypatch.setattr(datasets, "CIFAR10", fake)
    images = read_torchvision("cifar10", role, cache="/nowhere", download=False)
    assert np.asarray(images.reader.read([0])[0])[0, 0, 0] == first
    assert images.labels.tolist() == [1, 0]
    assert images.class_names == ("a", "b")


def test_channels_are_put_last_for_svhn(monkeypatch) -> None:
    data = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    monkeypatch.setattr(datasets, "SVHN", lambda **_: SimpleNamespace(data=data, labels=np.asarray([0, 1])))
    images = read_torchvision("svhn", "val", cache="/nowhere", download=False)
    assert np.array_equal(np.asarray(images.reader.read([1])[0]), data[1].transpose(1, 2, 0))
    assert images.class_names is None


def test_an_absent_dataset_says_how_to_get_it(tmp_path) -> None:
    with pytest.raises(DataError, match=r"torchvision:cifar10 is not in(.|\n)*dataset\.download=true"):
        read_torchvision("cifar10", "train", cache=str(tmp_path), download=False)


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'torchvision:cifar10'"):
        read_torchvision("cifar-10", "train", cache="/nowhere", download=False)
