"""The one place that decides which layers of a frozen network are computed together, and how."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from edc_ray.core.layer_chains import sole_readers
from edc_ray.core.measured_input import StatisticKernels
from edc_ray.core.network_numerics import NetworkNumerics
from edc_ray.core.norm_activation import ACTIVATIONS, NormActivation
from edc_ray.core.packed_convolution import PackedConvolution, packable

Wanted = Literal["gradients", "inputs", "results"]
"""What is wanted of a network: gradients of its images, the inputs of its layers, or nothing but results."""

_Readers = Mapping[nn.Module, nn.Module]
_Places = dict[nn.Module, list[tuple[nn.Module, str]]]


def fused_network(
    network: nn.Module,
    wanted: Wanted,
    kernels: StatisticKernels,
    numerics: NetworkNumerics,
    images_BCHW: Tensor | None,
) -> nn.Module:
    """A frozen network as it is computed fastest, with the results of its layers up to rounding.

    gradients   each BatchNorm with the activation behind it and the statistics of its input, one pass;
                weights laid out as the kernels compute
    inputs      the same, and convolutions with weights that oneDNN has in order
    results     moreover a BatchNorm that alone reads a convolution is part of its weights, and the
                activation behind part of the writing of the result

    An activation goes with what it reads only where nothing else reads that: see `sole_readers`.

    Args:
        network: in eval mode, without gradients of its parameters.
        wanted: what it is for; the inputs of layers that go with others are not to be had.
        kernels: those of the run, here.
        numerics: those of the run. Other numbers than float32 and networks that a compiler makes are left to
            torch, which puts plain layers together by itself.
        images_BCHW: one image of the size that will come, any pixels. None: activations stay by themselves.

    Returns:
        A copy with the same names, or the network itself where nothing is to be gained. For inputs and
        results it shares the network's tensors.
    """
    fuses = kernels.norms is not None and numerics.dtype == torch.float32 and numerics.compiler is None
    if wanted == "gradients" and kernels.memory_format != torch.contiguous_format:
        # What other holders of the network compute depends in its last bits on how its weights lie.
        network = copy.deepcopy(network).to(memory_format=kernels.memory_format)
    elif fuses:
        tensors = (*network.parameters(), *network.buffers())
        network = copy.deepcopy(network, {id(each): each for each in tensors})
    if not fuses:
        return network
    places = _places(network)
    readers = {} if images_BCHW is None else _readers(network, images_BCHW, places)
    if wanted != "gradients":
        _pack_convolutions(network, readers, places, folds=wanted == "results")
    _fuse_norms(network, readers, places, kernels)
    return network


def _readers(network: nn.Module, images_BCHW: Tensor, places: _Places) -> _Readers:
    """`sole_readers`, of layers that stand in one place."""
    found = sole_readers(network, images_BCHW, (nn.Conv2d, nn.BatchNorm2d, *ACTIVATIONS))
    return {
        layer: reader for layer, reader in found.items() if len(places[layer]) == len(places[reader]) == 1
    }


def _pack_convolutions(network: nn.Module, readers: _Readers, places: _Places, *, folds: bool) -> None:
    for layer in list(network.modules()):
        if not isinstance(layer, nn.Conv2d) or not packable(layer) or len(places[layer]) > 1:
            continue
        norm = activation = None
        if folds:
            reader = readers.get(layer)
            norm = reader if isinstance(reader, nn.BatchNorm2d) and _is_frozen(reader) else None
            activation = _activation(reader if norm is None else readers.get(norm))
        _replace(places, layer, PackedConvolution(layer, norm, activation), norm, activation)


def _fuse_norms(network: nn.Module, readers: _Readers, places: _Places, kernels: StatisticKernels) -> None:
    for norm in list(network.modules()):
        if type(norm) is nn.BatchNorm2d and len(places[norm]) == 1 and norm.running_mean is not None:
            behind = _activation(readers.get(norm))
            _replace(places, norm, NormActivation(norm, behind, kernels), behind)


def _is_frozen(norm: nn.BatchNorm2d) -> bool:
    learns = norm.training or any(each.requires_grad for each in norm.parameters())
    return norm.running_mean is not None and not learns


def _activation(reader: nn.Module | None) -> nn.Module | None:
    return reader if type(reader) in ACTIVATIONS else None


def _replace(places: _Places, layer: nn.Module, new: nn.Module, *done: nn.Module | None) -> None:
    """Puts a layer into the place of another that does the work of those behind it, too."""
    for each, stand_in in ((layer, new), *((one, nn.Identity()) for one in done if one is not None)):
        for parent, name in places[each]:
            parent._modules[name] = stand_in


def _places(network: nn.Module) -> _Places:
    """Where in a network each layer stands."""
    found: _Places = {}
    for parent in network.modules():
        for name, child in parent._modules.items():
            if child is not None:
                found.setdefault(child, []).append((parent, name))
    return found
