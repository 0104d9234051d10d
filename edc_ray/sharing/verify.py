"""Verifying a folder: every stored file against the size and hash that were recorded for it."""

from __future__ import annotations

from edc_ray.artifacts.proof.manifest import Problem, is_proof, verify_run
from edc_ray.artifacts.storage.layout import RUN_CONFIG
from edc_ray.artifacts.storage.store import Store
from edc_ray.errors import ConfigError
from edc_ray.sharing.export.target import ABOUT, export_problems


def verify_folder(store: Store) -> list[Problem]:
    """Damaged and missing files, each once; none where all is sound.

    Args:
        store: of a run, or of what was imported, compressed or exported with a card.

    Raises:
        ConfigError: it is none of these: nothing there says what its files should hold.
    """
    found = [*verify_run(store), *export_problems(store)]
    problems = list({problem.path: problem for problem in found}.values())  # both may name a file
    if not problems and not has_proof(store) and not store.exists(RUN_CONFIG):
        raise ConfigError(
            f"nothing in {store.url} says what its files should hold",
            found=f"{len(store.list())} files, none of them a manifest, a record or {ABOUT}",
            expected="a run, or what edc-ray imported, compressed or exported with a manifest",
        )
    return problems


def has_proof(store: Store) -> bool:
    """Whether any file states what others should hold: a run of which no unit is done has none."""
    return any(is_proof(path) or path == ABOUT for path in store.list())
