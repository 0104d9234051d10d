"""Every network by name: built with weights from a seed, and checked against the images before any work."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edc_ray.errors import ConfigError, EdcRayError
from edc_ray.models.construction import construct, family_of


def build_network(name: str, *, num_classes: int, image_size: int, channels: int, seed: int) -> nn.Module:
    """A network whose initial weights depend on the arguments alone.

    Args:
        name: one of `construction.network_names()`, `timm:NAME`, or `module:factory`. The factory is called
            with those of num_classes, image_size and channels that it takes, and returns a network.
        num_classes: outputs.
        image_size: side of the square images.
        channels: of the images. Unless it is 3, a torchvision network's first convolution is replaced.
        seed: of the initial weights. The process's random state stays as it is.

    Returns:
        The network on the CPU, in float32 and training mode, without pretrained weights.

    Raises:
        ConfigError: the name is unknown (the error names the nearest), or the network cannot take the images.
    """
    check_network(name, num_classes=num_classes, image_size=image_size, channels=channels)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
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
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network = _without_values(name, num_classes, image_size, channels)
            device = next((one.device for one in network.parameters()), torch.device("cpu"))
            for mode in (True, False):
                logits = network.train(mode)(torch.zeros(shape, device=device))
                _check_logits(name, logits, num_classes)
    except EdcRayError:
        raise
    except Exception as error:  # libraries and users' networks fail in their own ways
        raise ConfigError(
            f"network '{name}' cannot take images of {image_size}x{image_size} with {channels} channels",
            found=(str(error).splitlines() or [type(error).__name__])[0],
            next="choose a network for small images, such as resnet18_small, or another dataset.image_size",
        ) from error
    return network


def head_keys(name: str, *, num_classes: int, image_size: int, channels: int) -> frozenset[str]:
    """Keys of the state dict whose shapes follow the number of classes: the classifier's last layer."""
    shapes = []
    with torch.random.fork_rng(devices=[]):
        for count in (num_classes, num_classes + 1):
            network = _without_values(name, count, image_size, channels)
            shapes.append({key: value.shape for key, value in network.state_dict().items()})
    fewer, more = shapes
    return frozenset(key for key in fewer if more.get(key) != fewer[key])


def _without_values(name: str, num_classes: int, image_size: int, channels: int) -> nn.Module:
    """The network on the meta device, which computes only shapes, if its family can be built there.

    RegNets read tensors while they are built, which the meta device cannot do. timm's and users' networks may
    do so, too.
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
