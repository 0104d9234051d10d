"""Fusing layers of a frozen network. Only this file decides which layers, and how."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edc_ray.core.layers.measured_input import StatisticKernels
from edc_ray.core.layers.network_numerics import HALF_TYPES, NetworkNumerics
from edc_ray.core.layers.norm_activation import ACTIVATIONS, NormActivation
from edc_ray.kernels.cpu.packed_convolution import PackedConvolution, packable

Wanted = Literal["gradients", "inputs", "results"]
"""The use of a network: gradients of its images, the inputs of its layers, or only its results."""

_TOLERANCE = 1e-3
"""Share of the largest number of a result. Rounding errors are a thousand times smaller."""
_Readers = Mapping[nn.Module, nn.Module]
_Places = dict[nn.Module, list[tuple[nn.Module, str]]]


def fused_network(
    network: nn.Module,
    wanted: Wanted,
    kernels: StatisticKernels,
    numerics: NetworkNumerics,
    images_BCHW: Tensor,
) -> nn.Module:
    """The fastest form of a frozen network, with the same results up to rounding.

    gradients   each BatchNorm, its activation and the statistics of its input take one pass; weights are in
                the kernels' layout
    inputs      the same, and weights of convolutions are in oneDNN's order
    results     the same; a BatchNorm becomes part of the weights of the convolution before it, and its
                activation part of writing the result

    Layers are fused only if nothing else reads what lies between them: see `sole_readers`. Then the fused
    network is tried on the same images. If it fails or its results differ, the original is returned. Code
    that acts differently for other images goes unnoticed.

    Args:
        network: in eval mode, without gradients of its parameters.
        wanted: its use. Inputs of fused layers cannot be read.
        kernels: of the run, on this machine.
        numerics: of the run. With a compiler, or in a number format that the norm kernels lack, nothing is
            fused: torch's compiler fuses plain layers itself.
        images_BCHW: `trial_images` of the size that the network will get.

    Returns:
        A copy in which layers keep their names, except the fused ones; or the network itself if nothing can
        be gained. For inputs and results it shares the network's tensors.
    """
    norms = kernels.norms
    fuses = norms is not None and numerics.dtype in norms.dtypes and numerics.compiler is None
    # Before the copy: this replaces tensors of weight norms, which cannot be copied with their history.
    expected = _results(network, images_BCHW) if fuses else None
    if wanted == "gradients" and kernels.memory_format != torch.contiguous_format:
        # A copy, because the layout of weights changes the last bits for other users of the network.
        network = copy.deepcopy(network).to(memory_format=kernels.memory_format)
    if not fuses:
        return network
    tensors = (*network.parameters(), *network.buffers())
    fused = copy.deepcopy(network, {id(each): each for each in tensors})
    places = _places(fused)
    readers = _readers(fused, images_BCHW, places)
    if wanted != "gradients" and images_BCHW.device.type == "cpu":
        _pack_convolutions(fused, readers, places, folds=wanted == "results")
    _fuse_norms(fused, readers, places, kernels)
    try:
        found = _results(fused, images_BCHW)
    except Exception:  # of the network's own code
        return network
    if not all(map(_is_close, tree_leaves(expected), tree_leaves(found))):
        return network
    if images_BCHW.device.type == "cuda" and numerics.dtype in HALF_TYPES:
        _round_weights(fused, places, numerics.dtype)
    return fused


def _round_weights(network: nn.Module, places: _Places, dtype: torch.dtype) -> None:
    """Round weights once, as autocast does. It would round frozen weights in each forward pass."""
    for layer in list(network.modules()):
        if type(layer) in (nn.Conv2d, nn.Linear) and _is_replaceable(layer, places):
            for name, tensor in list(layer.named_parameters(recurse=False)):
                setattr(layer, name, nn.Parameter(tensor.to(dtype), requires_grad=False))


def trial_images(channels: int, image_size: int, device: torch.device) -> Tensor:
    """Two images of noise [2, C, S, S]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, image_size, image_size, generator=generator).to(device)


@torch.no_grad()
def _results(network: nn.Module, images_BCHW: Tensor) -> Any:
    if images_BCHW.device.type != "cuda":
        return network(images_BCHW)
    # Rounding by TF32 differs between algorithms, so two ways are compared without it.
    cudnn: Any = torch.backends.cudnn
    products = torch.backends.cuda.matmul
    before = cudnn.allow_tf32, products.allow_tf32
    try:
        cudnn.allow_tf32 = products.allow_tf32 = False
        return network(images_BCHW)
    finally:
        cudnn.allow_tf32, products.allow_tf32 = before


def _is_close(expected: Tensor, found: Tensor) -> bool:
    finite = expected[expected.isfinite()].abs()
    margin = _TOLERANCE * float(finite.max()) if len(finite) else 0.0
    return torch.allclose(found, expected, rtol=_TOLERANCE, atol=margin, equal_nan=True)


def _readers(network: nn.Module, images_BCHW: Tensor, places: _Places) -> _Readers:
    """`sole_readers` among layers that can be replaced."""
    found = sole_readers(network, images_BCHW, (nn.Conv2d, nn.BatchNorm2d, *ACTIVATIONS))
    return {
        layer: reader
        for layer, reader in found.items()
        if _is_replaceable(layer, places) and _is_replaceable(reader, places)
    }


def _pack_convolutions(network: nn.Module, readers: _Readers, places: _Places, *, folds: bool) -> None:
    for layer in list(network.modules()):
        if not isinstance(layer, nn.Conv2d) or not packable(layer) or not _is_replaceable(layer, places):
            continue
        norm = activation = None
        if folds:
            reader = readers.get(layer)
            norm = reader if isinstance(reader, nn.BatchNorm2d) and _is_frozen(reader) else None
            activation = _activation(reader if norm is None else readers.get(norm))
        _replace(places, layer, PackedConvolution(layer, norm, activation), norm, activation)


def _fuse_norms(network: nn.Module, readers: _Readers, places: _Places, kernels: StatisticKernels) -> None:
    for norm in list(network.modules()):
        if type(norm) is nn.BatchNorm2d and norm.running_mean is not None and _is_replaceable(norm, places):
            behind = _activation(readers.get(norm))
            _replace(places, norm, NormActivation(norm, behind, kernels), behind)


def _is_replaceable(layer: nn.Module, places: _Places) -> bool:
    """Whether a layer has one place and no hooks (old weight norms have some)."""
    return len(places[layer]) == 1 and not layer._forward_pre_hooks and not layer._forward_hooks


def _is_frozen(norm: nn.BatchNorm2d) -> bool:
    learns = norm.training or any(each.requires_grad for each in norm.parameters())
    return norm.running_mean is not None and not learns


def _activation(reader: nn.Module | None) -> nn.Module | None:
    return reader if type(reader) in ACTIVATIONS else None


def _replace(places: _Places, layer: nn.Module, new: nn.Module, *done: nn.Module | None) -> None:
    """Put a new layer in the place of another. It also does the work of the layers after it (`done`)."""
    for each, stand_in in ((layer, new), *((one, nn.Identity()) for one in done if one is not None)):
        for parent, name in places[each]:
            parent._modules[name] = stand_in


def _places(network: nn.Module) -> _Places:
    """The places of each layer in a network."""
    found: _Places = {}
    for parent in network.modules():
        for name, child in parent._modules.items():
            if child is not None:
                found.setdefault(child, []).append((parent, name))
    return found


@torch.no_grad()
def sole_readers(
    network: nn.Module, images_BCHW: Tensor, classes: Sequence[type[nn.Module]]
) -> dict[nn.Module, nn.Module]:
    """Layer -> the only layer that reads its result, in a network in eval mode.

    The structure of a network does not show it: code may run a Sequential in slices, or use a result twice.
    So every operation of one forward pass is watched. Both layers run once in it and are of one of the
    classes, not of a subclass. A layer is left out if other code reads, changes or returns its result or a
    part of it. `images_BCHW` are of the size that the network will get.
    """
    layers = [module for module in network.modules() if type(module) in classes]
    watch = _Watch()
    handles = [layer.register_forward_pre_hook(watch.enter) for layer in layers]
    handles += [layer.register_forward_hook(watch.leave) for layer in layers]
    try:
        with watch:
            given = network(images_BCHW)
    finally:
        for handle in handles:
            handle.remove()
    watch.read(given)
    once = {layer for layer in layers if watch.runs[layer] == 1}
    return {
        layer: reader
        for layer in layers
        if layer in once and len(readers := watch.readers[layer]) == 1
        for reader in readers
        if reader in once
    }


class _Watch(TorchDispatchMode):
    """Notes which layers read the result of each layer. None stands for code outside them."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: Counter[nn.Module] = Counter()
        self.readers: dict[nn.Module, set[nn.Module | None]] = {}
        self._inside: list[nn.Module] = []
        self._owners: dict[int, nn.Module] = {}
        self._kept: list[object] = []  # else other tensors would get their memory

    def enter(self, layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        self.runs[layer] += 1
        self._inside.append(layer)

    def leave(self, layer: nn.Module, arguments: tuple[Any, ...], result: Any) -> None:
        self._inside.pop()
        self.readers[layer] = set()
        # A layer that worked in place has overwritten what it read.
        if place := _memory(result):
            self._owners[place] = layer
        self._kept.append(result)

    def read(self, values: Any) -> None:
        reader = self._inside[-1] if self._inside else None
        for value in tree_leaves(values):
            owner = self._owners.get(_memory(value))
            if owner is not None and owner is not reader:
                self.readers[owner].add(reader)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.read((args, kwargs))
        return func(*args, **(kwargs or {}))


def _memory(value: Any) -> int:
    """Address of a tensor's memory, the same for its views; 0 for anything else."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return 0
    return value.untyped_storage().data_ptr()
