"""Growing a run by ipc where the method's values follow ipc: what stays as it began, and what may change.

Images that are there stay only in the blocks they were made in, so the block sizes of a run that began with
fewer images are kept. Labels and students are made anew from all images, so they get the values of the new
ipc.
"""

from __future__ import annotations

from typing import Any

from edc_ray.config.method_values import field_value
from edc_ray.config.methods import METHODS
from edc_ray.config.run import RunConfig

_BLOCK_SIZES = ("recover.classes_per_unit", "recover.ipc_per_unit")
_MADE_ANEW = ("relabel.", "evaluate.")


def with_blocks_of(earlier: RunConfig, config: RunConfig) -> RunConfig:
    """`config` with the block sizes in which a run began, where its method chose both sizes by ipc.

    Sizes that a user chose, then or now, are left alone.
    """
    theirs = _values(earlier, _BLOCK_SIZES)
    if earlier.method != config.method or _values(config, _BLOCK_SIZES) != _by_method(config, config.ipc):
        return config
    if not any(_by_method(config, ipc) == theirs for ipc in range(1, config.ipc)):
        return config
    sizes = {path.partition(".")[2]: value for path, value in theirs.items()}
    return config.model_copy(update={"recover": config.recover.model_copy(update=sizes)})


def follows_ipc(earlier: RunConfig, config: RunConfig, field: str) -> bool:
    """Whether a field of what is made anew has its method's value for the ipc, both before and after."""
    if earlier.method != config.method or earlier.ipc >= config.ipc or not field.startswith(_MADE_ANEW):
        return False
    return all(
        field_value(one, field) == field_value(_of_method(one, one.ipc), field) for one in (earlier, config)
    )


def _by_method(config: RunConfig, ipc: int) -> dict[str, Any]:
    return _values(_of_method(config, ipc), _BLOCK_SIZES)


def _of_method(config: RunConfig, ipc: int) -> RunConfig:
    return METHODS[config.method](config.model_copy(update={"ipc": ipc}))


def _values(config: RunConfig, fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: field_value(config, field) for field in fields}
