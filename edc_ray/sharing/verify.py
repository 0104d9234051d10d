"""Verifying a folder: every stored file against the size and hash that were recorded for it."""

from __future__ import annotations

from edc_ray.artifacts.proof.manifest import Problem, proof_at, verify_run
from edc_ray.artifacts.storage.layout import RUN_CONFIG
from edc_ray.artifacts.storage.store import Store
from edc_ray.errors import ConfigError
from edc_ray.sharing.export.target import export_problems
from edc_ray.sharing.facts import ABOUT


def verify_folder(store: Store) -> list[Problem]:
    """Damaged and missing files, each once, of a run or of an imported, compressed or exported set.

    Raises:
        ConfigError: nothing in the folder says what its files should hold.
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
    """Whether any file states what others should hold. A run without a finished unit has none."""
    return any(proof_at(path) or path == ABOUT for path in store.list())
