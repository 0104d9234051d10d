"""Reading or measuring the inputs of chosen layers of a network while it runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from edc_ray.core.layers.accumulator import LayerKind
from edc_ray.core.layers.image_statistics import ImageStatistics
from edc_ray.core.layers.measured_input import StatisticKernels, measure
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.layers.network_numerics import without_autocast
from edc_ray.core.layers.norm_activation import NormActivation
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS

_CLASSES: dict[LayerKind, type[nn.Module]] = {"bn": nn.BatchNorm2d, "conv": nn.Conv2d}


class LayerTaps:
    """The BatchNorm2d and Conv2d layers of a network, under their module paths, in module order.

    Holds no statistics, and changes the network only inside its contexts. `kinds` are ("bn", "conv"), or
    ("bn",) as SRe2L and CDA. `kernels` compute the statistics in `measuring`.

    Raises:
        ValueError: unknown kind, or no such layer in the network.

    >>> with taps.recording() as inputs:
    ...     logits = network(images)
    >>> inputs["layer1.0.conv1"].shape
    """

    def __init__(
        self,
        network: nn.Module,
        kinds: Sequence[LayerKind] = ("bn", "conv"),
        kernels: StatisticKernels = TORCH_KERNELS,
    ) -> None:
        if unknown := set(kinds) - set(_CLASSES):
            raise ValueError(f"unknown kinds of layers: {sorted(unknown)}; there are {sorted(_CLASSES)}")
        self.kernels = kernels
        self._modules: dict[str, nn.Module] = {}
        self.kinds: dict[str, LayerKind] = {}
        for name, module in network.named_modules():
            for kind in kinds:
                if isinstance(module, _CLASSES[kind]):
                    self._modules[name] = module
                    self.kinds[name] = kind
        if not self.kinds:
            raise ValueError(f"{type(network).__name__} has no layer of the kinds {tuple(kinds)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tapped layers, in module order."""
        return tuple(self.kinds)

    @contextmanager
    def recording(self) -> Iterator[dict[str, Tensor]]:
        """Within the context, a forward fills the yielded dict: layer name to its input, gradients attached.

        If a layer runs twice in one forward, its last input counts.

        Raises:
            RuntimeError: at the end, if the network changed a recorded input in place after the layer read
                it, or if a tapped layer did not run.
        """
        inputs: dict[str, Tensor] = {}

        def keep(name: str, x: Tensor) -> Tensor:
            inputs[name] = x
            return x

        with self._reading(self._modules, keep):
            yield inputs

    @contextmanager
    def measuring_images(
        self, measure: ImageStatistics, patch_side: int
    ) -> Iterator[dict[str, LayerStatistics]]:
        """Like `recording`, but the dict holds statistics of every image by itself, without gradients.

        An input is measured when its layer runs, for a convolution with patches, and is not kept. `measure`
        measures the inputs that no layer measures in its own pass.
        """
        found: dict[str, LayerStatistics] = {}

        def look(name: str, x: Tensor) -> Tensor:
            module = self._modules[name]
            if isinstance(module, NormActivation) and module.shows_images(x):
                module.show_images = partial(_keep, found, name)
            else:
                found[name] = measure(x, patch_side if self.kinds[name] == "conv" else None)
            return x

        with self._reading(self._modules, look, kept=False):
            yield found

    @contextmanager
    def measuring(
        self, patch_side: int, leave_out: Collection[str] = ()
    ) -> Iterator[dict[str, LayerStatistics]]:
        """Like `recording`, but the dict holds statistics, differentiable; convolutions have patches.

        Layers in `leave_out` are not measured. The backward pass adds the statistics' part to the gradient of
        an input when that comes by, so that measuring keeps no tensors of the size of an input.
        """
        found: dict[str, LayerStatistics] = {}

        def look(name: str, x: Tensor) -> Tensor:
            module = self._modules[name]
            if isinstance(module, NormActivation):
                module.show = partial(_keep, found, name)  # it measures in the pass that computes it
                return x
            side = patch_side if self.kinds[name] == "conv" else None
            # A subclass may use its input more than once; then the gradient is not of that layer alone.
            owns = type(module) in _CLASSES.values()
            passed, quantities = measure(x, side, self.kernels, owns_gradient=owns)
            found[name] = LayerStatistics(*quantities)
            return passed

        chosen = {name: module for name, module in self._modules.items() if name not in leave_out}
        with self._reading(chosen, look):
            yield found

    @contextmanager
    def _reading(
        self, modules: Mapping[str, nn.Module], look: Callable[[str, Tensor], Tensor], *, kept: bool = True
    ) -> Iterator[None]:
        """Within the context, `look(name, input)` gives the input that a layer goes on with.

        Unless inputs are `kept`, they may be changed in place afterwards.
        """
        seen: dict[str, Tensor | None] = {}
        versions: dict[str, int] = {}

        def read(name: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            seen[name] = arguments[0] if kept else None
            versions[name] = _version(arguments[0])
            with without_autocast(arguments[0].device):
                return (look(name, arguments[0]), *arguments[1:])

        handles = [module.register_forward_pre_hook(partial(read, name)) for name, module in modules.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        if skipped := [name for name in modules if name not in seen]:
            raise RuntimeError(
                f"layer {skipped[0]!r} did not run in this forward ({len(skipped)} such layers)"
            )
        changed = [name for name, x in seen.items() if x is not None and _version(x) != versions[name]]
        if changed:
            raise RuntimeError(
                f"the input of layer {changed[0]!r} was changed in place after the layer had read it"
            )

    def running_statistics(self, layer: str) -> LayerStatistics:
        """Running mean and variance of a BatchNorm that keeps them: the official code's global target."""
        module = self._modules[layer]
        mean, variance = (getattr(module, f"running_{each}", None) for each in ("mean", "var"))
        if not isinstance(module, nn.BatchNorm2d) or mean is None or variance is None:
            raise ValueError(f"layer {layer!r} keeps no running statistics")
        return LayerStatistics(mean.clone(), variance.clone())


def _keep(found: dict[str, LayerStatistics], name: str, quantities: tuple[Tensor, ...]) -> None:
    found[name] = LayerStatistics(*quantities)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
