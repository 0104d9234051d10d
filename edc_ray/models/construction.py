"""Building a network from its name: ours, torchvision's, EfficientNet-Lite, timm's or a user's.

Libraries draw weights from torch's global generator. `registry.build_network` seeds it.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import warnings
from collections.abc import Iterable
from typing import Any, Literal

from torch import nn

from edc_ray.errors import ConfigError
from edc_ray.models.adaptive_pool import with_pools_to_size

Family = Literal["small", "torchvision", "efficientnet_lite", "timm", "own"]

# Name -> the module with a function of that name. It is imported on demand, because some need torchvision,
# which takes longer to import than everything else in a worker.
SMALL_NETWORKS: dict[str, str] = {
    "convnet_d1": "convnet",
    "convnet_d2": "convnet",
    "convnet_w128": "convnet",
    "convnet_w32": "convnet",
    "mobilenet_v2_small": "mobilenet_small",
    "resnet101_small": "small_stems",
    "resnet18_small": "small_stems",
    "resnet50_small": "small_stems",
    "shufflenet_v2_x0_5_small": "small_stems",
    "wrn_16_2": "wide_resnet",
}
EFFICIENTNET_LITES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
_TIMM = "timm:"
_OWN = re.compile(r"[A-Za-z]\w*(\.\w+)*:[A-Za-z]\w*")


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
    """A network with new weights, on torch's default device.

    Raises:
        ConfigError: the name is unknown (the error names the nearest), its library is not installed, or a
            user's factory does not work.
    """
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
    factory = _factory_of(name)
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
            expected="a function of num_classes and, where it needs them, image_size and channels",
        )
    network = factory(**{key: value for key, value in given.items() if key in accepted})
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"network '{name}': the factory returns no network",
            found=type(network).__name__,
            expected="a torch.nn.Module",
        )
    return network


def _factory_of(name: str) -> Any:
    if not _OWN.fullmatch(name):
        raise ConfigError(
            f"unknown network '{name}'", expected="a plain name, timm:NAME or your own module:factory"
        )
    module_name, _, factory_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's module can raise anything while it is imported
        raise ConfigError(
            f"network '{name}': the module '{module_name}' cannot be imported",
            found=f"{type(error).__name__}: {error}",
            next="install it, or name its folder in PYTHONPATH, on every node",
        ) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        known = [f"{module_name}:{key}" for key, value in vars(module).items() if callable(value)]
        raise unknown_network(name, known, f"a function of the module {module_name}")
    return factory


def import_extra(module: str, name: str, *, extra: str) -> Any:
    """A library that one of our extras installs.

    Raises:
        ConfigError: it is not installed. The error says how to install it.
    """
    try:
        with warnings.catch_warnings():
            # A library's warnings about its own imports do not help a user of edc-ray.
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"network '{name}' needs a library that is not installed",
            found=str(error),
            next=f"pip install 'edc-ray[{extra}]' on every node",
        ) from error


def unknown_network(name: str, known: Iterable[str], expected: str) -> ConfigError:
    """The error for a network that does not exist. It names the nearest ones."""
    nearest = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return ConfigError(
        f"unknown network '{name}'",
        expected=f"one of {', '.join(nearest)}" if nearest else expected,
        next=f"did you mean '{nearest[0]}'?" if nearest else None,
    )
