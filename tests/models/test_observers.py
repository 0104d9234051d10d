import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision import models

from edc_ray.errors import ArtifactError
from edc_ray.models.observers import freeze, network_from_bytes, network_to_bytes, read_network_info
from edc_ray.models.registry import build_network

NAMES = ("cat", "dog", "emu")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    built = build_network("wrn_16_2", num_classes=3, image_size=8, channels=1, seed=4)
    with torch.no_grad():  # running statistics that differ from those of a new network
        built(torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    return built


@pytest.fixture(scope="module")
def data(network: nn.Module) -> bytes:
    return network_to_bytes(network, name="wrn_16_2", image_size=8, channels=1, class_names=NAMES)


def test_a_read_network_equals_the_written_one_and_is_frozen(network: nn.Module, data: bytes) -> None:
    read = network_from_bytes(data, name="wrn_16_2", image_size=8, channels=1, class_names=NAMES)
    assert not read.training
    assert not any(p.requires_grad for p in read.parameters())
    written = network.state_dict()
    assert all(torch.equal(value, written[key]) for key, value in read.state_dict().items())
    assert "bn.num_batches_tracked" in written


def test_bytes_depend_on_the_network_alone(network: nn.Module, data: bytes) -> None:
    again = network_to_bytes(network, name="wrn_16_2", image_size=8, channels=1, class_names=list(NAMES))
    assert again == data


def test_reading_leaves_the_random_state_of_the_process_alone(data: bytes) -> None:
    before = torch.get_rng_state()
    network_from_bytes(data)
    assert torch.equal(torch.get_rng_state(), before)


def test_info_is_read_without_building(data: bytes) -> None:
    info = read_network_info(data)
    assert (info.name, info.image_size, info.channels, info.class_names) == ("wrn_16_2", 8, 1, NAMES)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"class_names": ("cat", "emu", "dog")}, "class 1 is 'dog'"),
        ({"class_names": ("cat", "dog")}, "3 classes"),
        ({"name": "convnet_w32"}, "name of the stored network"),
        ({"image_size": 16}, "image_size"),
        ({"channels": 3}, "channels"),
    ],
)
def test_a_network_for_something_else_is_refused(data: bytes, wanted: dict, message: str) -> None:
    with pytest.raises(ArtifactError, match=f"run/x(.|\n)*{message}"):
        network_from_bytes(data, source="run/x", **wanted)


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_truncated_bytes_are_refused(data: bytes, cut: int) -> None:
    with pytest.raises(ArtifactError, match="squeeze/a"):
        network_from_bytes(data[:cut], source="squeeze/a")


def test_weights_of_another_architecture_are_refused(network: nn.Module) -> None:
    wrong = network_to_bytes(network, name="convnet_w32", image_size=8, channels=1, class_names=NAMES)
    with pytest.raises(ArtifactError, match="do not fit network 'convnet_w32'"):
        network_from_bytes(wrong)


def test_a_newer_schema_asks_for_an_upgrade(data: bytes) -> None:
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    fields = json.loads(header["__metadata__"]["edc_ray.network"]) | {"schema_version": 99}
    header["__metadata__"]["edc_ray.network"] = json.dumps(fields)
    text = json.dumps(header).encode()
    newer = len(text).to_bytes(8, "little") + text + data[8 + size :]
    with pytest.raises(ArtifactError, match="upgrade edc-ray"):
        network_from_bytes(newer)


def test_freezing_changes_mode_and_gradients_only(network: nn.Module) -> None:
    copy = build_network("convnet_d1", num_classes=2, image_size=8, channels=1, seed=0)
    before = {key: value.clone() for key, value in copy.state_dict().items()}
    assert freeze(copy) is copy
    assert all(torch.equal(value, before[key]) for key, value in copy.state_dict().items())


def test_a_stored_name_of_somebodys_own_network_imports_nothing(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_that_a_file_names.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    own = "module_that_a_file_names:net"
    stored = network_to_bytes(network, name=own, image_size=8, channels=1, class_names=NAMES)
    with pytest.raises(ArtifactError, match="a user's own"):
        network_from_bytes(stored)


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "efficientnet_b0", "vgg11_bn"]
)
def test_a_stored_torchvision_network_is_a_checkpoint_of_torchvision(name: str) -> None:
    built = build_network(name, num_classes=3, image_size=32, channels=3, seed=0)
    stored = network_to_bytes(built, name=name, image_size=32, channels=3, class_names=NAMES)
    models.get_model(name, weights=None, num_classes=3).load_state_dict(safetensors.torch.load(stored))


def test_a_network_whose_layers_have_versions_is_read_again() -> None:
    built = build_network("mnasnet0_5", num_classes=3, image_size=32, channels=3, seed=0)
    stored = network_to_bytes(built, name="mnasnet0_5", image_size=32, channels=3, class_names=NAMES)
    read, written = network_from_bytes(stored).state_dict(), built.state_dict()
    assert all(torch.equal(read[key], written[key]) for key in written)
