"""Writes what all recipes and methods resolve to into tests/config/resolved. `make configs` runs it.

- DATASET.yaml: the whole config of `edc`.
- METHOD.yaml: for each dataset and ipc, the fields in which the method differs from that.

A test compares the files with what the code gives, so that a change of a value shows in review.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import yaml

from edc_ray.config.load import field_paths, load_recipe, to_yaml
from edc_ray.config.methods.registry import METHODS
from edc_ray.config.recipes import RECIPES
from edc_ray.config.run import RunConfig

FOLDER = Path(__file__).parent / "resolved"
PAPER_IPC = (1, 10, 50)


def names() -> Iterator[tuple[str, str, int]]:
    """(dataset, method, ipc): the paper's ipc for `edc` and `edc_official`, else 10; digits have 1."""
    for dataset in RECIPES:
        for method in METHODS:
            ipcs = PAPER_IPC if method in ("edc", "edc_official") else (10,)
            for ipc in (1,) if dataset == "digits" else ipcs:
                yield dataset, method, ipc


def resolved() -> dict[str, str]:
    """Name of a file -> its text."""
    files = {f"{dataset}.yaml": to_yaml(load_recipe(dataset)) for dataset in RECIPES}
    differences: dict[str, dict[str, dict[str, Any]]] = {method: {} for method in METHODS}
    for dataset, method, ipc in names():
        config = load_recipe(dataset, [f"method={method}", f"ipc={ipc}"])
        if found := _differences(load_recipe(dataset), config):
            differences[method][f"{dataset} {ipc}"] = found
    return files | {
        f"{method}.yaml": yaml.safe_dump(found, sort_keys=False, default_flow_style=None, width=110)
        for method, found in differences.items()
    }


def _differences(base: RunConfig, config: RunConfig) -> dict[str, Any]:
    known, given = base.model_dump(mode="json"), config.model_dump(mode="json")
    pairs = {path: (_at(known, path), _at(given, path)) for path in field_paths() if path != "method"}
    return {path: value for path, (usual, value) in pairs.items() if value != usual}


def _at(tree: Any, path: str) -> Any:
    return reduce(getitem, path.split("."), tree)


def write() -> None:
    """Writes every file and removes those of names that are gone."""
    FOLDER.mkdir(exist_ok=True)
    wanted = resolved()
    for file in FOLDER.glob("*.yaml"):
        if file.name not in wanted:
            file.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
