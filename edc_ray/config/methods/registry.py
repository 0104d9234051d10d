"""All methods by name. A file of this folder that has `METHODS` joins them; nothing else lists it.

Such a file has

- METHODS: its functions from a config to a config, each named as the method;
- VALUES: the `MethodValues` that they set;
- CITATION, where it has a paper of its own: BibTeX;
- adjusted, where a user's fields bring others along: see `adjusted`.

A method sets the values of its paper or its authors' program for the config's dataset and ipc. On a dataset
that it does not know it sets what it does everywhere and leaves the rest alone. A user's own function is a
method under the name `module:function`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
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


def _files() -> list[ModuleType]:
    names = sorted(
        module.name for module in pkgutil.iter_modules(methods.__path__) if module.name != "registry"
    )
    found = [importlib.import_module(f"{methods.__name__}.{name}") for name in names]
    return [module for module in found if hasattr(module, "METHODS")]


_FILES = {function.__name__: file for file in _files() for function in file.METHODS}
_SET_EVERYWHERE = {path for file in _FILES.values() for path in file.VALUES.everywhere}
_SET_ANYWHERE = {path for file in _FILES.values() for path in file.VALUES.fields()}


def _alone(method: Method) -> Method:
    """The method on a config without traces of another: what any of them sets has its default first."""

    @wraps(method)
    def applied(config: RunConfig) -> RunConfig:
        known = config.dataset.name in edc.VALUES.datasets
        defaults = defaults_of(config, _SET_ANYWHERE if known else _SET_EVERYWHERE)
        return method(with_values(config, config.method, defaults))

    return applied


METHODS: dict[str, Method] = {name: _alone(getattr(_FILES[name], name)) for name in sorted(_FILES)}


def is_method(name: str) -> bool:
    """Whether there is such a method, or it could be a user's, which is imported when it is applied."""
    return name in METHODS or names_own_code(name)


def with_method(config: RunConfig, name: str) -> RunConfig:
    """The config with the values of a method.

    Args:
        config: anything; what other methods set in it goes back to its default.
        name: for which `is_method` holds.

    Raises:
        ConfigError: a user's function cannot be imported, or gives no config.
    """
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
    """What a method sets otherwise beside fields that a user sets: `section.field` -> value.

    Args:
        config: of the method, before these fields.
        fields: `section.field` -> the user's value, which wins over what is returned.
    """
    adjust = getattr(_FILES.get(config.method), "adjusted", None)
    return {} if adjust is None else adjust(config, fields)


def citations(method: str | None) -> list[str]:
    """BibTeX of EDC, and of the method where it has another paper."""
    own = getattr(_FILES.get(method or ""), "CITATION", edc.CITATION)
    return list(dict.fromkeys((edc.CITATION, own)))
