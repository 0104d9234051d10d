"""Every network by name: ours, torchvision's, EfficientNet-Lite, timm's or a user's.

It is built with weights from a seed, and checked against the images before any work.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import warnings
from collections.abc import Iterable
from threading import RLock
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edc_ray.errors import ConfigError, EdcRayError, how_to_install
from edc_ray.own_code import names_own_code, own_function

Family = Literal["small", "torchvision", "efficientnet_lite", "timm", "own"]

# Name -> the module with a function of that name. It is imported on demand, because some need torchvision,
# which takes longer to import than everything else in a worker.
SMALL_NETWORKS: dict[str, str] = {
    "convnet_d1": "convnet",
    "convnet_d2": "convnet",
    "convnet_w128": "convnet",
    "convnet_w32": "convnet",
    "mobilenet_v2_small": "small_networks",
    "resnet101_small": "small_networks",
    "resnet18_small": "small_networks",
    "resnet50_small": "small_networks",
    "shufflenet_v2_x0_5_small": "small_networks",
    "wrn_16_2": "wide_resnet",
}
EFFICIENTNET_LITES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
_TIMM = "timm:"
RANDOM_STATE = RLock()
"""Held by a thread that seeds torch's random state, or puts it back. All threads share that state."""


def build_network(name: str, *, num_classes: int, image_size: int, channels: int, seed: int) -> nn.Module:
    """A network whose initial weights depend on the arguments alone.

    Args:
        name: one of `network_names()`, `timm:NAME`, or `module:factory`. The factory is called with those of
            num_classes, image_size and channels that it takes, and returns a network.
        num_classes: outputs.
        image_size: side of the square images.
        channels: of the images. Unless it is 3, a torchvision network's first convolution is replaced.
        seed: of the initial weights. The process's random state stays as it is.

    Returns:
        The network on the CPU, in float32 and training mode, without pretrained weights.

    Raises:
        ConfigError: the name is unknown (the error names the nearest), its library is not installed, a user's
            factory does not work, or the network cannot take the images.
    """
    check_network(name, num_classes=num_classes, image_size=image_size, channels=channels)
    with RANDOM_STATE, torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would also seed every CUDA generator.
        torch.default_generator.manual_seed(seed)
        return construct(name, num_classes=num_classes, image_size=image_size, channels=channels)


def check_network(name: str, *, num_classes: int, image_size: int, channels: int) -> nn.Module:
    """Refuse what `build_network` refuses, before any work is done.

    Returns:
        A network of that name to look at, usually on the meta device (without values).
    """
    shape = (2, channels, image_size, image_size)
    try:
        with RANDOM_STATE, torch.random.fork_rng(devices=[]), torch.no_grad():
            network = _without_values(name, num_classes, image_size, channels)
            device = next((one.device for one in network.parameters()), torch.device("cpu"))
            for mode in (True, False):
                logits = network.train(mode)(torch.zeros(shape, device=device))
                _check_logits(name, logits, num_classes)
    except EdcRayError:
        raise
    except Exception as error:  # libraries and users' networks fail in their own ways
        if family_of(name) == "small" and isinstance(error, ImportError | AttributeError | TypeError):
            raise  # a mistake in a file of ours
        raise ConfigError(
            f"network '{name}' cannot take images of {image_size}x{image_size} with {channels} channels",
            found=(str(error).splitlines() or [type(error).__name__])[0],
            next="choose a network for small images, such as resnet18_small, or another dataset.image_size",
        ) from error
    return network


def head_keys(name: str, *, num_classes: int, image_size: int, channels: int) -> frozenset[str]:
    """Keys of the state dict whose shapes follow the number of classes: the classifier's last layer."""
    shapes = []
    with RANDOM_STATE, torch.random.fork_rng(devices=[]):
        for count in (num_classes, num_classes + 1):
            network = _without_values(name, count, image_size, channels)
            shapes.append({key: value.shape for key, value in network.state_dict().items()})
    fewer, more = shapes
    return frozenset(key for key in fewer if more.get(key) != fewer[key])


def _without_values(name: str, num_classes: int, image_size: int, channels: int) -> nn.Module:
    """The network on the meta device, which computes only shapes, if its family can be built there.

    RegNets, and perhaps timm's and users' networks, read tensors while they are built. There they have none.
    """
    family = family_of(name)
    on_cpu = family in ("timm", "own") or name.startswith("regnet")
    with torch.device("cpu" if on_cpu else "meta"):
        network = construct(name, num_classes=num_classes, image_size=image_size, channels=channels)
    return network if family in ("timm", "own") else network.to("meta")


def _check_logits(name: str, logits: object, num_classes: int) -> None:
    if isinstance(logits, Tensor) and logits.shape == (2, num_classes):
        return
    found = f"a tensor {list(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    raise ConfigError(
        f"network '{name}' does not return logits",
        found=f"{found} for 2 images",
        expected=f"one tensor [2, {num_classes}], in training mode too",
    )


def family_of(name: str) -> Family:
    """The family that a name belongs to. The family need not have a network of that name."""
    if name in SMALL_NETWORKS:
        return "small"
    if name in EFFICIENTNET_LITES:
        return "efficientnet_lite"
    if name.startswith(_TIMM):
        return "timm"
    return "own" if ":" in name else "torchvision"


def network_names() -> list[str]:
    """All plain names: our networks for small images, torchvision's classifiers, EfficientNet-Lite."""
    from torchvision import models

    return [*SMALL_NETWORKS, *models.list_models(module=models), *EFFICIENTNET_LITES]


def construct(name: str, *, num_classes: int, image_size: int, channels: int) -> nn.Module:
    """A network with new weights, on torch's default device. Raises what `build_network` raises."""
    builders = {
        "small": _small,
        "torchvision": _torchvision,
        "efficientnet_lite": _efficientnet_lite,
        "timm": _timm,
        "own": _own,
    }
    family = family_of(name)
    network = builders[family](name, num_classes, image_size, channels)
    if channels != 3 and family in ("torchvision", "efficientnet_lite"):
        # Everything but the first convolution is kept.
        stem = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
        stem.in_channels = channels
        stem.weight = nn.Parameter(stem.weight.new_empty(stem.out_channels, channels, *stem.kernel_size))
        stem.reset_parameters()
    return with_pools_to_size(network)


def _small(name: str, num_classes: int, image_size: int, channels: int) -> nn.Module:
    module = importlib.import_module(f"edc_ray.models.{SMALL_NETWORKS[name]}")
    return getattr(module, name)(num_classes=num_classes, image_size=image_size, channels=channels)


def _torchvision(name: str, num_classes: int, image_size: int, channels: int) -> nn.Module:
    from torchvision import models

    if name not in (known := network_names()):
        raise unknown_network(name, known, "a plain name, timm:NAME or your own module:factory")
    options: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if name.startswith("vit_"):
        options["image_size"] = image_size
    elif name.startswith("maxvit_"):
        options["input_size"] = (image_size, image_size)
    elif name in ("googlenet", "inception_v3"):
        # Auxiliary heads would make the output in training mode a tuple. The published weights expect inputs
        # in [-1, 1]; transform_input makes the network rescale normalised images of three channels.
        options |= {"aux_logits": False, "init_weights": True, "transform_input": channels == 3}
    return models.get_model(name, **options)


def _efficientnet_lite(name: str, num_classes: int, image_size: int, channels: int) -> nn.Module:
    package = import_extra("efficientnet_lite_pytorch", name, extra="efficientnet-lite")
    own = name.replace("_lite", "-lite")
    return package.EfficientNet.from_name(own, num_classes=num_classes, image_size=image_size)


def _timm(name: str, num_classes: int, image_size: int, channels: int) -> nn.Module:
    timm = import_extra("timm", name, extra="timm")
    own = name.removeprefix(_TIMM)
    if not timm.is_model(own):
        known = [_TIMM + known for known in timm.list_models()]
        raise unknown_network(name, known, "timm: with a name of timm.list_models()")
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
    config = timm.get_pretrained_cfg(own, allow_unregistered=True)
    if config is not None and config.fixed_input_size:
        options["img_size"] = image_size
    return timm.create_model(own, pretrained=False, **options)


def _own(name: str, num_classes: int, image_size: int, channels: int) -> nn.Module:
    if not names_own_code(name):
        raise ConfigError(
            f"unknown network '{name}'", expected="a plain name, timm:NAME or your own module:factory"
        )
    expected = "a function of num_classes and, where it needs them, image_size and channels"
    factory = own_function("network", name, expected=expected)
    given = {"num_classes": num_classes, "image_size": image_size, "channels": channels}
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError as error:
        raise ConfigError(f"network '{name}': the factory does not say which arguments it takes") from error
    accepted = {one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)}
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        # Nobody knows which other keywords it understands.
        accepted.add("num_classes")
    if "num_classes" not in accepted:
        raise ConfigError(
            f"network '{name}': the factory does not take the number of classes",
            found=f"it takes {', '.join(sorted(accepted)) or 'nothing'}",
            expected=expected,
        )
    network = factory(**{key: value for key, value in given.items() if key in accepted})
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"network '{name}': the factory returns no network",
            found=type(network).__name__,
            expected="a torch.nn.Module",
        )
    return network


def import_extra(module: str, name: str, *, extra: str) -> Any:
    """A library that one of our extras installs. A ConfigError says how to install it."""
    try:
        with warnings.catch_warnings():
            # A library's warnings about its own imports do not help a user of edc-ray.
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"network '{name}' needs a library that is not installed",
            found=str(error),
            next=how_to_install(extra),
        ) from error


def unknown_network(name: str, known: Iterable[str], expected: str) -> ConfigError:
    """The error for a network that does not exist. It names the nearest ones."""
    nearest = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return ConfigError(
        f"unknown network '{name}'",
        expected=f"one of {', '.join(nearest)}" if nearest else expected,
        next=f"did you mean '{nearest[0]}'?" if nearest else None,
    )


class PoolToSize(nn.AdaptiveAvgPool2d):
    """Adaptive pooling that passes a map on unchanged if it already has the size, which gives the same bits.

    AlexNet and VGG pool to the size that their maps have for images of 224 pixels. On CUDA torch's layer
    refuses its backward pass in deterministic mode.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, h, w]."""
        size = self.output_size
        height, width = (size, size) if size is None or isinstance(size, int) else size
        if (height or input.shape[-2], width or input.shape[-1]) == tuple(input.shape[-2:]):
            return input
        return super().forward(input)


def with_pools_to_size(network: nn.Module) -> nn.Module:
    """The network with `PoolToSize` in place of its adaptive pools, which have no parameters."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.AdaptiveAvgPool2d:
                setattr(parent, name, PoolToSize(child.output_size))
    return network
