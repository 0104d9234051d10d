"""What `edc-ray run` says at the end to a program: one JSON object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edc_ray.artifacts.proof.manifest import read_manifest
from edc_ray.artifacts.storage.layout import stage_folder
from edc_ray.artifacts.storage.store import Store
from edc_ray.report.run_report import result_rows

_ENDS = ("stage_done", "stage_reused", "stage_failed")
_OF_A_STAGE = ("seconds", "units_done", "units_reused")
_OF_A_ROW = ("row", "ipc", "student", "n", "top1_mean", "top1_std")


def run_summary(store: Store, events: Iterable[Mapping[str, Any]], *, whole: bool = True) -> dict[str, Any]:
    """The object of --json.

    Args:
        store: of the run.
        events: of one call.
        whole: the call did all its stages. Otherwise the object holds no accuracy of students.
    """
    squeeze = read_manifest(store, stage_folder("squeeze"))
    recover = read_manifest(store, stage_folder("recover"))
    rows = result_rows(store) if whole else []
    return {
        "run": store.url,
        "rows": [{name: getattr(row, name) for name in _OF_A_ROW} for row in rows],
        "stages": {
            event["stage"]: {name: event[name] for name in _OF_A_STAGE}
            for event in events
            if event["event"] in _ENDS
        },
        "observers": squeeze.meta["observers"] if squeeze else {},
        "matching_loss": recover.meta["matching_loss"] if recover else None,
    }
