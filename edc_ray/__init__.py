"""edc-ray: condense a labelled image dataset into a few images per class plus soft labels.

    import edc_ray

    config = edc_ray.recipe("digits", ipc=1)
    run = edc_ray.run(config)
    run.table()

docs/PYTHON.md shows the rest. A name below is imported when it is first used, so `import edc_ray` brings
neither torch nor Ray nor pyarrow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edc_ray.version import __version__

if TYPE_CHECKING:
    from edc_ray.config.load import to_yaml
    from edc_ray.config.run import RunConfig
    from edc_ray.data.condensed.images import CondensedImages
    from edc_ray.data.condensed.stream import CondensedDataset
    from edc_ray.errors import (
        ArtifactError,
        ConfigError,
        DataError,
        EdcRayError,
        NumericalError,
        ResourceError,
        UnitsFailedError,
    )
    from edc_ray.face.configs import load_config, methods, recipe, recipes
    from edc_ray.face.run import Run, open
    from edc_ray.face.running import Sweep, run, sweep
    from edc_ray.report.table import ResultRow
    from edc_ray.sharing.import_official import import_images, import_statistics

__all__ = [
    "ArtifactError",
    "CondensedDataset",
    "CondensedImages",
    "ConfigError",
    "DataError",
    "EdcRayError",
    "NumericalError",
    "ResourceError",
    "ResultRow",
    "Run",
    "RunConfig",
    "Sweep",
    "UnitsFailedError",
    "__version__",
    "import_images",
    "import_statistics",
    "load_config",
    "methods",
    "open",
    "recipe",
    "recipes",
    "run",
    "sweep",
    "to_yaml",
]

_MODULES = {
    "config.load": ("to_yaml",),
    "config.run": ("RunConfig",),
    "data.condensed.images": ("CondensedImages",),
    "data.condensed.stream": ("CondensedDataset",),
    "face.configs": ("load_config", "methods", "recipe", "recipes"),
    "face.running": ("Sweep", "run", "sweep"),
    "face.run": ("Run", "open"),
    "report.table": ("ResultRow",),
    "sharing.import_official": ("import_images", "import_statistics"),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'edc_ray' has no attribute {name!r}")
    return getattr(importlib.import_module(f"edc_ray.{_PLACES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
