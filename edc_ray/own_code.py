"""A user's own code, which a config names as `module:function`: a network, a method, a source of images."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable
from typing import Any

from edc_ray.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")


def names_own_code(name: str) -> bool:
    """Whether a name is written as `module:function`."""
    return _NAME.fullmatch(name) is not None


def own_function(kind: str, name: str, *, expected: str) -> Callable[..., Any]:
    """The function that a name of the form `module:function` stands for. Imports its module.

    Args:
        kind: what errors call it: "network", "method" or "dataset".
        name: for which `names_own_code` holds.
        expected: what the function takes and returns.

    Raises:
        ConfigError: the module cannot be imported, or has no such function.
    """
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's module can raise anything while it is imported
        raise ConfigError(
            f"{kind} '{name}': the module '{module_name}' cannot be imported",
            found=f"{type(error).__name__}: {error}",
            expected=expected,
            next="install the module, or put its folder into PYTHONPATH, on every node",
        ) from error
    function = getattr(module, function_name, None)
    if callable(function):
        return function
    known = [key for key, value in vars(module).items() if callable(value)]
    nearest = difflib.get_close_matches(function_name, known, n=1, cutoff=0.5)
    raise ConfigError(
        f"{kind} '{name}': the module '{module_name}' has no function '{function_name}'",
        expected=expected,
        next=f"did you mean '{module_name}:{nearest[0]}'?" if nearest else None,
    )
