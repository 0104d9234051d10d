"""A network and the statistics of its layers as one function without side effects, for compilers.

The hooks of `LayerTaps` come and go and run other code, so a compiler has to stop at every layer. The hooks
here stay and do plain arithmetic. B images, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from edc_ray.core.layers.accumulator import LayerKind
from edc_ray.core.layers.layout_free import layer_moments
from edc_ray.core.layers.measured_input import wide
from edc_ray.core.layers.network_numerics import without_autocast
from edc_ray.core.layers.tile_weights import TileWeights, tile_weights


class MeasuredNetwork(nn.Module):
    """Gives logits [B, K] and the statistics of each tapped layer, in module order, all differentiable.

    Args:
        network: in eval mode; copied.
        kinds: the tapped layers, by their module paths.
        images_BCHW: images of the size that will come: they show the sizes of activations.

    Raises:
        RuntimeError: a tapped layer does not run.
    """

    def __init__(
        self, network: nn.Module, kinds: Mapping[str, LayerKind], patch_side: int, images_BCHW: Tensor
    ) -> None:
        super().__init__()
        self._network = copy.deepcopy(network)
        self._names = tuple(kinds)
        modules = {name: self._network.get_submodule(name) for name in kinds}
        sizes: dict[str, torch.Size] = {}

        def look(name: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            sizes[name] = arguments[0].shape[-2:]

        handles = [module.register_forward_pre_hook(partial(look, name)) for name, module in modules.items()]
        with torch.no_grad():
            self._network(images_BCHW[:1])
        for handle in handles:
            handle.remove()
        if skipped := [name for name in modules if name not in sizes]:
            raise RuntimeError(
                f"layer {skipped[0]!r} did not run in this forward ({len(skipped)} such layers)"
            )
        self._found: dict[str, tuple[Tensor, ...]] = {}
        for name, module in modules.items():
            weights = None
            if kinds[name] == "conv":
                height, width = sizes[name]
                weights = tile_weights(height, width, patch_side, images_BCHW.device, wide(images_BCHW))
            module.register_forward_pre_hook(partial(self._measure, name, weights))

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, tuple[tuple[Tensor, ...], ...]]:
        self._found.clear()
        logits_BK = self._network(images_BCHW)
        statistics = tuple(self._found[name] for name in self._names)
        self._found.clear()
        return logits_BK, statistics

    def _measure(
        self, name: str, weights: TileWeights | None, module: nn.Module, arguments: tuple[Tensor, ...]
    ) -> None:
        x_BCHW = arguments[0]
        with without_autocast(x_BCHW.device):
            moments = layer_moments(x_BCHW, weights)
        shown = torch.float64 if x_BCHW.dtype == torch.float64 else torch.float32
        self._found[name] = tuple(each.to(shown) for each in moments)
