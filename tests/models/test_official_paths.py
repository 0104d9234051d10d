"""Layers of the official networks for small images, literally: names, channels of the input, order.

A layer and the channels of its input, in the order in which the official programs hook BatchNorms and
convolutions: the first of them has the multiplier, and each one's statistics are looked up under its name.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edc_ray.core.layers.taps import LayerTaps
from edc_ray.errors import ConfigError
from edc_ray.models.official_paths import from_official_state, official_path
from edc_ray.models.pretrained import Pretrained, start_from
from edc_ray.models.registry import build_network

RESNET18 = """
conv1 3, bn1 64,
layer1.0.conv1 64, layer1.0.bn1 64, layer1.0.conv2 64, layer1.0.bn2 64,
layer1.1.conv1 64, layer1.1.bn1 64, layer1.1.conv2 64, layer1.1.bn2 64,
layer2.0.conv1 64, layer2.0.bn1 128, layer2.0.conv2 128, layer2.0.bn2 128,
layer2.0.shortcut.0 64, layer2.0.shortcut.1 128,
layer2.1.conv1 128, layer2.1.bn1 128, layer2.1.conv2 128, layer2.1.bn2 128,
layer3.0.conv1 128, layer3.0.bn1 256, layer3.0.conv2 256, layer3.0.bn2 256,
layer3.0.shortcut.0 128, layer3.0.shortcut.1 256,
layer3.1.conv1 256, layer3.1.bn1 256, layer3.1.conv2 256, layer3.1.bn2 256,
layer4.0.conv1 256, layer4.0.bn1 512, layer4.0.conv2 512, layer4.0.bn2 512,
layer4.0.shortcut.0 256, layer4.0.shortcut.1 512,
layer4.1.conv1 512, layer4.1.bn1 512, layer4.1.conv2 512, layer4.1.bn2 512
"""

WRN_16_2 = """
conv1 3,
block1.layer.0.bn1 16, block1.layer.0.conv1 16, block1.layer.0.bn2 32, block1.layer.0.conv2 32,
block1.layer.0.convShortcut 16,
block1.layer.1.bn1 32, block1.layer.1.conv1 32, block1.layer.1.bn2 32, block1.layer.1.conv2 32,
block2.layer.0.bn1 32, block2.layer.0.conv1 32, block2.layer.0.bn2 64, block2.layer.0.conv2 64,
block2.layer.0.convShortcut 32,
block2.layer.1.bn1 64, block2.layer.1.conv1 64, block2.layer.1.bn2 64, block2.layer.1.conv2 64,
block3.layer.0.bn1 64, block3.layer.0.conv1 64, block3.layer.0.bn2 128, block3.layer.0.conv2 128,
block3.layer.0.convShortcut 64,
block3.layer.1.bn1 128, block3.layer.1.conv1 128, block3.layer.1.bn2 128, block3.layer.1.conv2 128,
bn1 128
"""

# Of a block: the channels that enter its three convolutions and norms in turn.
MOBILENET_BLOCKS = {
    "blocks.0.0": "16 16 16 16 16 8",
    "blocks.1.0": "8 48 48 48 48 12",
    "blocks.1.1": "12 72 72 72 72 12",
    "blocks.2.0": "12 72 72 72 72 16",
    "blocks.2.1": "16 96 96 96 96 16",
    "blocks.2.2": "16 96 96 96 96 16",
    "blocks.3.0": "16 96 96 96 96 32",
    "blocks.3.1": "32 192 192 192 192 32",
    "blocks.3.2": "32 192 192 192 192 32",
    "blocks.3.3": "32 192 192 192 192 32",
    "blocks.4.0": "32 192 192 192 192 48",
    "blocks.4.1": "48 288 288 288 288 48",
    "blocks.4.2": "48 288 288 288 288 48",
    "blocks.5.0": "48 288 288 288 288 80",
    "blocks.5.1": "80 480 480 480 480 80",
    "blocks.5.2": "80 480 480 480 480 80",
    "blocks.6.0": "80 480 480 480 480 160",
}
MOBILENET_LAYERS = ("conv.0", "conv.1", "conv.3", "conv.4", "conv.6", "conv.7")

SHUFFLENET_FIRST = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "conv4", "bn4", "conv5", "bn5")
SHUFFLENET_OTHER = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
# Stage -> blocks after the first, channels that enter it, channels of a branch.
SHUFFLENET_STAGES = {"layer1": (3, 24, 24), "layer2": (7, 48, 48), "layer3": (3, 96, 96)}


def listed(text: str) -> list[tuple[str, int]]:
    pairs = [pair.split() for pair in text.replace("\n", " ").split(",")]
    return [(name, int(channels)) for name, channels in pairs]


def mobilenet() -> list[tuple[str, int]]:
    layers = [("conv1.0", 3), ("conv1.1", 16)]
    for block, channels in MOBILENET_BLOCKS.items():
        sizes = [int(size) for size in channels.split()]
        layers += [(f"{block}.{name}", size) for name, size in zip(MOBILENET_LAYERS, sizes, strict=True)]
    return [*layers, ("conv2.0", 160), ("conv2.1", 1280)]


def shufflenet() -> list[tuple[str, int]]:
    layers = [("conv1", 3), ("bn1", 24)]
    for stage, (blocks, entering, branch) in SHUFFLENET_STAGES.items():
        sizes = [entering, entering, entering, branch, entering, *[branch] * 5]
        layers += [(f"{stage}.0.{name}", size) for name, size in zip(SHUFFLENET_FIRST, sizes, strict=True)]
        for block in range(1, blocks + 1):
            layers += [(f"{stage}.{block}.{name}", branch) for name in SHUFFLENET_OTHER]
    return [*layers, ("conv2", 192), ("bn2", 1024)]


OFFICIAL = {
    "resnet18_small": listed(RESNET18),
    "wrn_16_2": listed(WRN_16_2),
    "mobilenet_v2_small": mobilenet(),
    "shufflenet_v2_x0_5_small": shufflenet(),
    "convnet_w128": [("features.0", 3), ("features.4", 128), ("features.8", 128)],
    "convnet_d1": [("features.0", 3)],
}
# Parameters with ten classes, and the last layer of the official network.
NUM_PARAMETERS = {
    "resnet18_small": (11_173_962, "linear"),
    "wrn_16_2": (691_674, "fc"),
    "mobilenet_v2_small": (697_546, "classifier.0"),
    "shufflenet_v2_x0_5_small": (351_466, "linear"),
    "convnet_w128": (320_010, "classifier"),
}


def network_of(name: str, seed: int = 0) -> torch.nn.Module:
    return build_network(name, num_classes=10, image_size=32, channels=3, seed=seed).eval()


def official_state(name: str) -> dict[str, Tensor]:
    """A checkpoint as the official squeeze saves it: theirs are the layers above, then the classifier."""
    state = network_of(name, seed=1).state_dict()
    last = NUM_PARAMETERS[name][1]
    layers = [layer for layer, _ in OFFICIAL[name]]
    if name == "convnet_w128":
        layers = [f"features.{index}" for index in (0, 1, 4, 5, 8, 9)]
    values, keys = iter(state.values()), list[str]()
    for layer in [*layers, last]:
        own = list(state)[len(keys)].rpartition(".")[0]
        keys += [f"{layer}.{key.rpartition('.')[2]}" for key in state if key.rpartition(".")[0] == own]
    return {key: next(values) for key in keys}


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_hooked_layers_have_the_official_names_channels_and_order(name: str) -> None:
    taps = LayerTaps(network := network_of(name))
    with torch.no_grad(), taps.recording() as inputs:
        network(torch.zeros(1, 3, 32, 32))
    found = [(official_path(name, layer), inputs[layer].shape[1]) for layer in taps.names]
    assert found == OFFICIAL[name]


@pytest.mark.parametrize("name", sorted(NUM_PARAMETERS))
def test_parameters_are_as_many_as_the_official_ones(name: str) -> None:
    assert sum(one.numel() for one in network_of(name).parameters()) == NUM_PARAMETERS[name][0]


@pytest.mark.parametrize("name", sorted(NUM_PARAMETERS))
def test_an_official_checkpoint_gives_the_logits_of_the_network_that_it_is_of(name: str) -> None:
    network, images = network_of(name), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    weights = Pretrained(official_state(name), "squeeze.pth", "0" * 64)
    head = start_from(
        network, weights, name=name, image_size=32, channels=3,
        class_names=[str(label) for label in range(10)], head_classes=None, may_train_head=False,
    )  # fmt: skip
    assert head == "kept"
    assert torch.equal(network(images), network_of(name, seed=1)(images))


def test_a_checkpoint_of_ours_is_taken_as_it_is() -> None:
    own, state = (network_of("wrn_16_2", seed).state_dict() for seed in (0, 1))
    assert from_official_state("wrn_16_2", own, state) is state


def test_a_checkpoint_that_lacks_a_layer_is_refused_under_its_own_names() -> None:
    state = official_state("wrn_16_2")
    del state["block3.layer.1.conv2.weight"]
    with pytest.raises(ConfigError, match="are not those of network 'wrn_16_2'"):
        start_from(
            network_of("wrn_16_2"), Pretrained(state, "squeeze.pth", "0" * 64), name="wrn_16_2",
            image_size=32, channels=3, class_names=[str(label) for label in range(10)], head_classes=None,
            may_train_head=False,
        )  # fmt: skip


@pytest.mark.parametrize("name", ["resnet50_small", "resnet101_small"])
def test_deeper_resnets_have_shortcuts_and_a_linear_layer(name: str) -> None:
    with torch.device("meta"):
        paths = [official_path(name, key) for key in network_of(name).state_dict()]
    assert "layer1.0.shortcut.0.weight" in paths
    assert "linear.bias" in paths
    assert not [path for path in paths if "downsample" in path]


def test_networks_of_a_library_keep_their_paths() -> None:
    assert official_path("resnet18", "layer2.0.downsample.0") == "layer2.0.downsample.0"
