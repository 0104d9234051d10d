"""How a method's values get into a config: tables of `section.field -> value`, laid over each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edc_ray.config.run import RunConfig

Values = Mapping[str, Any]
"""`section.field` -> value."""
Row = Values | Callable[[int], Values]
"""The values of one dataset, or a function of ipc that gives them."""


@dataclass(frozen=True)
class MethodValues:
    """What a method sets `everywhere`, and for some datasets by name: those values win."""

    everywhere: Values
    datasets: Mapping[str, Row] = field(default_factory=dict)

    def of(self, dataset: str, ipc: int) -> dict[str, Any]:
        row = self.datasets.get(dataset, {})
        return {**self.everywhere, **(row(ipc) if callable(row) else row)}

    def fields(self) -> set[str]:
        """The fields that it sets on any dataset."""
        return set(self.everywhere).union(*(self.of(dataset, 1) for dataset in self.datasets))


def with_values(config: RunConfig, method: str, values: Values) -> RunConfig:
    sections: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        section, name = path.split(".")
        sections.setdefault(section, {})[name] = value
    update: dict[str, Any] = {"method": method}
    for name, fields in sections.items():
        update[name] = getattr(config, name).model_copy(update=fields)
    return config.model_copy(update=update)


def laid_over(config: RunConfig, method: str, *layers: MethodValues) -> RunConfig:
    """A copy of `config` under the method's name with the values of the layers; later ones win."""
    values: dict[str, Any] = {}
    for layer in layers:
        values |= layer.of(config.dataset.name, config.ipc)
    return with_values(config, method, values)


def defaults_of(config: RunConfig, paths: set[str]) -> dict[str, Any]:
    """The defaults of some fields, if they have one."""
    values = {}
    for path in sorted(paths):
        section, name = path.split(".")
        info = type(getattr(config, section)).model_fields[name]
        if not info.is_required():
            values[path] = info.get_default(call_default_factory=True)
    return values
