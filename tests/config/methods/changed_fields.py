"""Configs of a recipe and a method, and the fields in which two of them differ."""

from __future__ import annotations

from edc_ray.config.methods.registry import METHODS
from edc_ray.config.recipes import RECIPES
from edc_ray.config.run import RunConfig


def of(recipe: str, method: str, ipc: int = 10) -> RunConfig:
    """The config of a method on a recipe's dataset."""
    return METHODS[method](RECIPES[recipe](ipc))


def changed(before: RunConfig, after: RunConfig) -> set[str]:
    """Fields whose values differ."""
    found = set()
    for section, fields in after.model_dump().items():
        old = before.model_dump()[section]
        if isinstance(fields, dict):
            found |= {f"{section}.{name}" for name, value in fields.items() if value != old[name]}
        elif fields != old:
            found.add(section)
    return found
