"""Every network by name: ours for small images, and torchvision's classifiers."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import torch
from torch import nn

from edc_ray.errors import ConfigError

# Name -> the module that has a function of that name. Imported when asked for: torchvision, which some of
# them build on, takes longer to import than all else that a worker needs.
_SMALL_NETWORKS: dict[str, str] = {
    "convnet_d1": "convnet",
    "convnet_d2": "convnet",
    "convnet_w128": "convnet",
    "convnet_w32": "convnet",
    "mobilenet_v2_small": "mobilenet_small",
    "resnet101_small": "resnet_small",
    "resnet18_small": "resnet_small",
    "resnet50_small": "resnet_small",
    "shufflenet_v2_x0_5_small": "shufflenet_small",
    "wrn_16_2": "wide_resnet",
}


def network_names() -> list[str]:
    """Names that `build_network` knows: networks for small images, then torchvision's classifiers."""
    from torchvision import models

    return [*_SMALL_NETWORKS, *models.list_models(module=models)]


def build_network(name: str, *, num_classes: int, image_size: int, channels: int, seed: int) -> nn.Module:
    """A network with initial weights that are a function of its arguments alone.

    Args:
        name: one of `network_names()`.
        num_classes: outputs.
        image_size: side of the square images.
        channels: channels of the images; the first convolution of a torchvision network is replaced where
            they are not 3.
        seed: of the initial weights. The process's random state is neither read nor changed.

    Returns:
        The network on the CPU, in float32 and training mode, without pretrained weights.

    Raises:
        ConfigError: the name is unknown (the error names the nearest), or the network cannot take the images.
    """
    check_network(name, num_classes=num_classes, image_size=image_size, channels=channels)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would also seed every CUDA generator.
        torch.default_generator.manual_seed(seed)
        return _construct(name, num_classes, image_size, channels)


def check_network(name: str, *, num_classes: int, image_size: int, channels: int) -> None:
    """Refuse an unknown network, or one that cannot take such images, before any work is done.

    Raises:
        ConfigError: as `build_network`.
    """
    if name not in _SMALL_NETWORKS and name not in (names := network_names()):
        nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        raise ConfigError(
            f"unknown network '{name}'",
            expected=f"one of {', '.join(nearest)}"
            if nearest
            else "a name of models.registry.network_names()",
            next=f"did you mean '{nearest[0]}'?" if nearest else None,
        )
    # The meta device computes shapes only: a network that pools an image away is found without arithmetic.
    # RegNets read tensors while they are built, which that device cannot do.
    device = "cpu" if name.startswith("regnet") else "meta"
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
            network = _construct(name, num_classes, image_size, channels).to("meta").eval()
            network(torch.empty(1, channels, image_size, image_size, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"network '{name}' cannot take images of {image_size}x{image_size} with {channels} channels",
            found=(str(error).splitlines() or [type(error).__name__])[0],
            next="choose a network for small images, such as resnet18_small, or another dataset.image_size",
        ) from error


def _construct(name: str, num_classes: int, image_size: int, channels: int) -> nn.Module:
    if name in _SMALL_NETWORKS:
        module = importlib.import_module(f"edc_ray.models.{_SMALL_NETWORKS[name]}")
        return getattr(module, name)(num_classes=num_classes, image_size=image_size, channels=channels)
    from torchvision import models

    options: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if name.startswith("vit_"):
        options["image_size"] = image_size
    elif name.startswith("maxvit_"):
        options["input_size"] = (image_size, image_size)
    elif name in ("googlenet", "inception_v3"):
        # Auxiliary heads would make the output of training mode a tuple.
        options |= {"aux_logits": False, "init_weights": True}
    network = models.get_model(name, **options)
    if channels != 3:
        _replace_first_convolution(network, channels)
    return network


def _replace_first_convolution(network: nn.Module, channels: int) -> None:
    path, old = next((path, m) for path, m in network.named_modules() if isinstance(m, nn.Conv2d))
    stem = nn.Conv2d(
        channels,
        old.out_channels,
        kernel_size=old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        dilation=old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, stem)
