"""What a run has stored, for comparing runs."""

from __future__ import annotations

from pathlib import Path

from edc_ray.artifacts.proof.manifest import read_manifest, verify_run
from edc_ray.artifacts.storage.layout import stage_folder
from edc_ray.artifacts.storage.store import open_store
from edc_ray.config.run import STAGE_NAMES


def stored_hashes(run: Path | str, stages: tuple[str, ...] = STAGE_NAMES) -> dict[str, str]:
    """SHA-256 of every shard of the named stages, all of which must be complete and sound."""
    store = open_store(str(run), writable=False)
    assert verify_run(store) == []
    hashes = {}
    for stage in stages:
        manifest = read_manifest(store, stage_folder(stage))
        assert manifest is not None, f"{stage} is not complete"
        hashes |= {f"{stage}/{shard.path}": shard.sha256 for shard in manifest.shards}
    return hashes


def recover_records(run: Path) -> list[str]:
    """Keys of the recover units that are done."""
    return sorted(path.stem for path in (run / stage_folder("recover") / "records").glob("*.json"))
