"""Compiles the kernels for GPUs that are not here. Needs no driver; not collected by pytest.

    python -m tests.kernels.cuda.compile_ahead 80 90 [--all]

Each operation runs on a CPU with every launch recorded, not done. Then Triton compiles what was launched,
with those types and options, for each compute capability. `--all`: in every layout and number type, and with
every activation. Prints one line for each capability: it, the number of kernels, and their names.
"""

from __future__ import annotations

import sys
from itertools import product
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from edc_ray.kernels.cuda import operations, pixels
from edc_ray.kernels.cuda.measuring_pass import ACTIVATIONS

WORDS = {torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16", torch.int32: "i32"}
Launch = tuple[ASTSource, dict[str, Any]]
launches: dict[Any, Launch] = {}


def record(kernel: JITFunction, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
    """In place of `JITFunction.run`."""
    given = dict(zip((one.name for one in kernel.params), arguments, strict=False))
    given |= {name: options.pop(name) for name in list(options) if name in kernel.arg_names}
    types, constants = dict[str, str](), dict[tuple[int, ...], Any]()
    for one in kernel.params:
        value = given[one.name]
        types[one.name] = "constexpr" if one.is_constexpr else _word(value)
        if one.is_constexpr:
            constants[one.num,] = value
    key = kernel.__name__, *types.items(), *constants.items(), *options.items()
    launches[key] = ASTSource(kernel, types, constants), options


def _word(value: object) -> str:
    if isinstance(value, Tensor):
        return f"*{WORDS[value.dtype]}"
    return "fp32" if isinstance(value, float) else "i32"


def run_operations(dtypes: list[torch.dtype], layouts: list[torch.memory_format], activations: int) -> None:
    for dtype, layout in product(dtypes, layouts):
        x = torch.zeros(2, 8, 12, 12, dtype=dtype).contiguous(memory_format=layout)
        by = torch.zeros(8)
        for side, each in ((0, False), (4, False), (5, True)):
            tiles = (-(-12 // side)) ** 2 if side else 0
            by_tile = torch.zeros(tiles) if side else None
            operations._moments(x, side, each, torch.float64 if each else torch.float32)
            operations._moments_gradient(x, side, torch.zeros(16 + 2 * tiles), by, by, by_tile, by_tile, x)
        for activation in range(activations):
            operations._norm(x, by, by, activation)
            operations._norm_moments(x, by, by, activation, False, torch.float32)
            operations._norm_gradient(x, by, by, activation, x, torch.zeros(16), by, by)
    images, box = torch.zeros(2, 3, 12, 12), torch.zeros(5, dtype=torch.int32)
    pixels._shared_view(images, box, True)
    pixels._shared_view_gradient(images, box)
    edges = torch.zeros(3, 1, 1), torch.zeros(3, 1, 1)
    pixels._pixel_step(images, images, images, images, torch.zeros(2), *edges, 0.5, 0.9)


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--all"]
    JITFunction.run = record  # type: ignore[method-assign]
    if "--all" in sys.argv:
        layouts = [torch.channels_last, torch.contiguous_format]
        run_operations([torch.float32, torch.bfloat16], layouts, activations=len(ACTIVATIONS))
    else:
        run_operations([torch.bfloat16], [torch.channels_last], activations=1)
    for word in words:
        for source, options in launches.values():
            made = triton.compile(source, target=GPUTarget("cuda", int(word), 32), options=options)
            assert made.asm["cubin"], f"{source.fn.__name__}: no machine code for sm_{word}"
        names = sorted({source.fn.__name__ for source, _ in launches.values()})
        print(word, len(launches), *names)


if __name__ == "__main__":
    main()
