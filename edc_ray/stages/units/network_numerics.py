"""How the stages compute networks: precision, layout and compiler of a run, as `precision` and `compile` say.

squeeze       forwards and backwards of training in the run's precision; accuracies in float32
statistics    forwards as those of recover: what 16 bits round away is then missing on both sides of a
              distance; moments are taken in float32 and summed in float64. Never compiled: one pass
init          scores; only their order counts. Never compiled: one pass, in parts of many sizes
recover       forwards and backwards to the pixels; pixels, optimiser, statistics, distances in float32
relabel       forwards; the mean over the observers in float32, stored as its codec says
evaluate      forwards and backwards of training; weights, averages, optimiser, losses, and the accuracies
              in float32: what is reported is of the weights, not of the rounding
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from edc_ray.core.layers.network_numerics import HALF_TYPES, NetworkNumerics
from edc_ray.kernels.cpu.statistics import kernels_for

if TYPE_CHECKING:
    from edc_ray.config.run import RunConfig
    from edc_ray.stages.units.context import StageContext

Compile = Literal["none", "default", "max-autotune", "graphs"]

_HALF: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_MODES: dict[Compile, str] = {
    "default": "default",
    "max-autotune": "max-autotune-no-cudagraphs",
    "graphs": "reduce-overhead",
}
# Of one network: training and evaluation, with and without gradient, whole batches and an epoch's last, and
# in one process many networks of one class.
_RECOMPILATIONS = 256


def network_numerics(config: RunConfig, device: torch.device, *, compiled: bool = True) -> NetworkNumerics:
    """How a run's networks are computed on a device.

    Args:
        config: of the run.
        device: whose networks.
        compiled: whether the stage compiles them where `compile` says so.
    """
    dtype = _HALF.get(config.precision, torch.float32)
    choice = config.compile if compiled else "none"
    return NetworkNumerics(
        dtype=dtype,
        # The units for 16-bit products read channels last; other layouts are rearranged for every layer.
        memory_format=torch.channels_last if device.type == "cuda" and dtype in HALF_TYPES else None,
        compiler=None if choice == "none" else partial(_compiled, choice),
        copies_outputs=choice == "graphs",
    )


def _compiled(choice: Compile, module: nn.Module) -> Callable[..., Any]:
    """The module behind torch's compiler, which works when the first images of a shape come.

    What it makes is kept in the folder of TORCHINDUCTOR_CACHE_DIR, by default one of the system's temporary
    folders, never in a run's.
    """
    from torch._inductor import list_mode_options

    # Random numbers (dropout) as torch draws them, whoever makes the code.
    options: dict[str, Any] = {**list_mode_options(_MODES[choice]), "fallback_random": True}
    return torch.compile(module, options=options, dynamic=False, recompile_limit=_RECOMPILATIONS)  # pyright: ignore[reportCallIssue]


def placed(network: nn.Module, config: RunConfig, device: torch.device) -> nn.Module:
    """The network on the device, its weights laid out as its precision computes best there."""
    network = network.to(device)
    memory_format = network_numerics(config, device).memory_format
    return network if memory_format is None else network.to(memory_format=memory_format)


def forward_of(
    network: nn.Module, context: StageContext, *, compiled: bool = True
) -> Callable[[Tensor], Tensor]:
    """A network's forward in the run's precision: float32 images to float32 logits."""
    return network_numerics(context.config, context.device, compiled=compiled).forward(network)


def observer_forward(
    context: StageContext, name: str, *, compiled: bool = True
) -> Callable[[Tensor], Tensor]:
    """As `forward_of`, of an observer of which nothing but logits is wanted, without gradients."""
    network = context.fused_observer(name, "results", compiled=compiled)
    return forward_of(network, context, compiled=compiled)


def kernels_name(context: StageContext, *, compiled: bool = True) -> str:
    """Who computes the layers of networks, on which their last bits depend: for the record of a unit."""
    if compiled and context.config.compile != "none":
        return "inductor"
    return kernels_for(context.device).name


class TrainingSteps:
    """Forward, backward and step of one training in the run's precision.

    In float16 the loss is scaled up before its backward pass, so that small gradients stay above 0, and a
    step with a gradient that overflowed is left out. The scale lives as long as the training: a unit trains
    its network to the end or begins anew.

    Args:
        network: to be trained, as an optimiser has it.
        context: of the stage.
    """

    def __init__(self, network: nn.Module, context: StageContext) -> None:
        self.forward = forward_of(network, context)
        scales = context.config.precision == "float16"
        self._scaler = torch.amp.GradScaler(context.device.type) if scales else None

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a loss to the parameters'."""
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """One step with the gradients that were added up."""
        if self._scaler is None:
            optimizer.step()
            return
        self._scaler.step(optimizer)
        self._scaler.update()
