"""Networks by family and name: which names there are, what a user's factory is given, what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from edc_ray.errors import ConfigError
from edc_ray.models.registry import build_network, check_network, family_of

OWN = """
from torch import nn

def linear(num_classes, image_size, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, num_classes))

def averaged(*, num_classes, **further):
    assert not further
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))

def without_classes(image_size):
    return linear(10, image_size, 3)

def deaf(num_classes, image_size, channels):
    return linear(7, image_size, channels)

class Pair(nn.Module):
    def forward(self, images):
        return images, images

def two_outputs(num_classes):
    return Pair()

def no_network(num_classes):
    return num_classes

def broken(num_classes):
    raise OSError("no such disk")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of an importable module with factories."""
    (tmp_path / "somebodys_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "somebodys_networks", raising=False)
    return "somebodys_networks"


def _built(name: str, channels: int = 3, seed: int = 0) -> nn.Module:
    return build_network(name, num_classes=5, image_size=8, channels=channels, seed=seed)


def test_a_name_belongs_to_one_family() -> None:
    families = {
        "convnet_w32": "small", "resnet18": "torchvision", "resnet18_smal": "torchvision",
        "efficientnet_lite1": "efficientnet_lite", "timm:resnet18.a1_in1k": "timm", "my.networks:deep": "own",
    }  # fmt: skip
    assert {name: family_of(name) for name in families} == families


@pytest.mark.parametrize("channels", [1, 3])
def test_an_own_factory_is_told_what_it_takes_and_follows_the_seed(own: str, channels: int) -> None:
    first, again, other = (_built(f"{own}:linear", channels, seed).state_dict() for seed in (1, 1, 2))
    assert first["1.weight"].shape == (5, channels * 64)
    assert torch.equal(first["1.weight"], again["1.weight"])
    assert not torch.equal(first["1.weight"], other["1.weight"])


def test_an_own_factory_of_any_keywords_is_told_the_number_of_classes_alone(own: str) -> None:
    assert _built(f"{own}:averaged")(torch.zeros(2, 3, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("lineer", "did you mean 'somebodys_networks:linear'"),
        ("without_classes", "does not take the number of classes(.|\n)*it takes image_size"),
        ("deaf", r"does not return logits(.|\n)*\[2, 7\](.|\n)*\[2, 5\]"),
        ("two_outputs", "does not return logits(.|\n)*a tuple"),
        ("no_network", "returns no network(.|\n)*int"),
        ("broken", "no such disk"),
    ],
)
def test_a_factory_that_is_none_is_refused(own: str, factory: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _built(f"{own}:{factory}")


def test_a_network_for_three_channels_says_so_where_images_have_one(own: str) -> None:
    with pytest.raises(ConfigError, match="cannot take images of 8x8 with 1 channels"):
        _built(f"{own}:averaged", channels=1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_anywhere:net", "cannot be imported(.|\n)*PYTHONPATH"),
        ("a b:net", "unknown network 'a b:net'"),
        ("_hidden:net", "cannot be imported"),
        ("os:path/x", "unknown network"),
    ],
)
def test_an_own_name_that_leads_nowhere_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _built(name)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("timm:resnet18", "timm", r"edc-ray\[timm\]"),
        ("efficientnet_lite0", "efficientnet_lite_pytorch", r"edc-ray\[efficientnet-lite\]"),
    ],
)
def test_an_extra_that_is_not_installed_is_named(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=extra):
        _built(name)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_a_network_with_auxiliary_heads_gives_one_tensor(name: str) -> None:
    for channels in (1, 3):
        check_network(name, num_classes=4, image_size=96, channels=channels)


@pytest.mark.nightly
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "vit_tiny_patch16_224", "efficientnet_lite0"])
def test_a_network_of_timm_takes_other_sizes_classes_and_channels(name: str, channels: int) -> None:
    timm = pytest.importorskip("timm", reason="needs the extra timm")
    ours = build_network(f"timm:{name}", num_classes=5, image_size=64, channels=channels, seed=0)
    options = {"img_size": 64} if name.startswith("vit") else {}
    # Strict: a checkpoint of ours is one of timm's.
    timm.create_model(name, num_classes=5, in_chans=channels, **options).load_state_dict(ours.state_dict())


@pytest.mark.nightly
def test_an_unknown_name_of_timm_is_answered_with_the_nearest() -> None:
    pytest.importorskip("timm", reason="needs the extra timm")
    with pytest.raises(ConfigError, match="did you mean 'timm:resnet18'"):
        _built("timm:resnet_18")


@pytest.mark.nightly
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_efficientnet_lite_takes_other_sizes_classes_and_channels(number: int, channels: int) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra efficientnet-lite")
    for size in (32, 65, 224):
        check_network(f"efficientnet_lite{number}", num_classes=5, image_size=size, channels=channels)
