"""All methods by name. A file of this folder that has `METHODS` joins them; nothing else lists it.

Such a file has

- METHODS: its functions from a config to a config, each named as the method;
- VALUES: the `MethodValues` that they set;
- CITATION, if it has a paper of its own: BibTeX;
- adjusted, if the method changes other fields with a user's fields: see `adjusted`.

A method sets the values of its paper or its authors' program for the config's dataset and ipc. On a dataset
that it does not know, it sets only what it sets everywhere. A user's own function is a method under the name
`module:function`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from types import ModuleType
from typing import Any

from edc_ray.config import methods
from edc_ray.config.methods import edc
from edc_ray.config.methods.values import Values, defaults_of, with_values
from edc_ray.config.run import RunConfig
from edc_ray.errors import ConfigError
from edc_ray.own_code import names_own_code, own_function

Method = Callable[[RunConfig], RunConfig]


def _files() -> Iterator[ModuleType]:
    for module in pkgutil.iter_modules(methods.__path__):
        if module.name != "registry":
            file = importlib.import_module(f"{methods.__name__}.{module.name}")
            if hasattr(file, "METHODS"):
                yield file


_FILES = {function.__name__: file for file in _files() for function in file.METHODS}
_SET_EVERYWHERE = {path for file in _FILES.values() for path in file.VALUES.everywhere}
_SET_ANYWHERE = {path for file in _FILES.values() for path in file.VALUES.fields()}


def _alone(method: Method) -> Method:
    """The method on a config in which every field that any method sets has its default."""

    @wraps(method)
    def applied(config: RunConfig) -> RunConfig:
        known = config.dataset.name in edc.VALUES.datasets
        defaults = defaults_of(config, _SET_ANYWHERE if known else _SET_EVERYWHERE)
        return method(with_values(config, config.method, defaults))

    return applied


METHODS: dict[str, Method] = {name: _alone(getattr(_FILES[name], name)) for name in sorted(_FILES)}


def is_method(name: str) -> bool:
    """Whether a method has the name, or it has the form of a user's, which `with_method` imports."""
    return name in METHODS or names_own_code(name)


def with_method(config: RunConfig, name: str) -> RunConfig:
    """The config with the values of a method; what other methods set goes back to its default."""
    if name in METHODS:
        return METHODS[name](config)
    function = own_function("method", name, expected="a function from a RunConfig to a RunConfig")
    result = _alone(function)(config)
    if not isinstance(result, RunConfig):
        raise ConfigError(
            f"method '{name}' gives no config",
            found=type(result).__name__,
            expected="a RunConfig: config.model_copy(update={...})",
        )
    return result.model_copy(update={"method": name})


def adjusted(config: RunConfig, fields: Mapping[str, Any]) -> Values:
    """Values of its own that a method changes when a user sets some fields: `section.field` -> value.

    Args:
        config: of the method, before these fields.
        fields: `section.field` -> the user's value, which wins over what is returned.
    """
    adjust = getattr(_FILES.get(config.method), "adjusted", None)
    return {} if adjust is None else adjust(config, fields)


def citations(method: str | None) -> list[str]:
    """BibTeX of EDC, and of the method if it has another paper."""
    own = getattr(_FILES.get(method or ""), "CITATION", edc.CITATION)
    return list(dict.fromkeys((edc.CITATION, own)))
