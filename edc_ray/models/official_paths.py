"""Names of layers in the official programs' networks for small images, where they differ from ours.

Both have the same layers with the same shapes in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# Pattern of our path -> theirs, tried in turn. A path that matches no pattern is the same in both.
_Rules = tuple[tuple[str, str], ...]

_RESNET: _Rules = ((r"\.downsample\.", ".shortcut."), (r"^fc\b", "linear"))
_WIDE_RESNET: _Rules = (
    (r"^layer(\d)\.", r"block\1.layer."),
    (r"\.shortcut\b", ".convShortcut"),
    (r"^bn\b", "bn1"),
)
_MOBILENET: _Rules = ((r"^classifier\b", "classifier.0"),)
_SHUFFLENET: _Rules = (
    (r"^conv1\.0\b", "conv1"),
    (r"^conv1\.1\b", "bn1"),
    (r"^conv5\.0\b", "conv2"),
    (r"^conv5\.1\b", "bn2"),
    (r"^fc\b", "linear"),
    (r"^stage2\.", "layer1."),
    (r"^stage3\.", "layer2."),
    (r"^stage4\.", "layer3."),
    # The first block of a stage halves the image in two branches. The other blocks have one branch.
    (r"\.0\.branch1\.0\b", ".0.conv1"),
    (r"\.0\.branch1\.1\b", ".0.bn1"),
    (r"\.0\.branch1\.2\b", ".0.conv2"),
    (r"\.0\.branch1\.3\b", ".0.bn2"),
    (r"\.0\.branch2\.0\b", ".0.conv3"),
    (r"\.0\.branch2\.1\b", ".0.bn3"),
    (r"\.0\.branch2\.3\b", ".0.conv4"),
    (r"\.0\.branch2\.4\b", ".0.bn4"),
    (r"\.0\.branch2\.5\b", ".0.conv5"),
    (r"\.0\.branch2\.6\b", ".0.bn5"),
    (r"\.branch2\.0\b", ".conv1"),
    (r"\.branch2\.1\b", ".bn1"),
    (r"\.branch2\.3\b", ".conv2"),
    (r"\.branch2\.4\b", ".bn2"),
    (r"\.branch2\.5\b", ".conv3"),
    (r"\.branch2\.6\b", ".bn3"),
)
_RULES: dict[str, _Rules] = {
    "resnet18_small": _RESNET,
    "resnet50_small": _RESNET,
    "resnet101_small": _RESNET,
    "wrn_16_2": _WIDE_RESNET,
    "mobilenet_v2_small": _MOBILENET,
    "shufflenet_v2_x0_5_small": _SHUFFLENET,
}


def official_path(network: str, path: str) -> str:
    """The official network's name of our network's layer, or of a key of its state dict.

    Networks that the official programs take from a library keep the library's paths.

    >>> official_path("wrn_16_2", "layer1.0.conv1")
    'block1.layer.0.conv1'
    """
    for pattern, replacement in _RULES.get(network, ()):
        path = re.sub(pattern, replacement, path, count=1)
    return path


def from_official_state(
    network: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """The state dict of an official checkpoint under the keys of our network, whose state dict is `own`.

    Any other state dict is returned unchanged.
    """
    theirs = {key: official_path(network, key) for key in own}
    if set(state) != set(theirs.values()):
        return state
    return {key: state[name] for key, name in theirs.items()}
