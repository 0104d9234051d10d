"""Writes the fully resolved configs of all datasets and methods into tests/config/resolved.

`make configs` runs it. A test compares the files with what the code gives, so that a change of a value
shows in review.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edc_ray.config.load import load_recipe, to_yaml
from edc_ray.config.methods.catalogue import METHODS
from edc_ray.config.recipes import RECIPES

FOLDER = Path(__file__).parent / "resolved"
PAPER_IPC = (1, 10, 50)


def names() -> Iterator[tuple[str, str, int]]:
    """(dataset, method, ipc) of every file: the paper's ipc for `edc`, 10 for the others; digits have 1."""
    for dataset in RECIPES:
        for method in METHODS:
            ipcs = PAPER_IPC if method in ("edc", "edc_official") else (10,)
            for ipc in (1,) if dataset == "digits" else ipcs:
                yield dataset, method, ipc


def file_of(dataset: str, method: str, ipc: int) -> Path:
    return FOLDER / f"{dataset}_{method}_ipc{ipc}.yaml"


def resolved(dataset: str, method: str, ipc: int) -> str:
    return to_yaml(load_recipe(dataset, [f"method={method}", f"ipc={ipc}"]))


def write() -> None:
    """Writes every file and removes those of names that are gone."""
    FOLDER.mkdir(exist_ok=True)
    wanted = {file_of(*name): resolved(*name) for name in names()}
    for file in set(FOLDER.glob("*.yaml")) - set(wanted):
        file.unlink()
    for file, text in wanted.items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
