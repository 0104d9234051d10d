"""Work units, what they return, and the stage that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from edc_ray.artifacts.proof.records import Record
from edc_ray.artifacts.storage.layout import stage_folder
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.run import RunConfig, StageName
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.digests import digest_of
from edc_ray.stages.units.context import StageContext


@dataclass(frozen=True)
class WorkUnit:
    """The smallest piece of work that is scheduled, retried, recorded and found again.

    Units are fixed by the config alone, never by how many workers there are.

    Args:
        stage: the stage it belongs to.
        key: name of its files; unique in the stage.
        title: how messages call it, such as "classes 40-49, ipc 0-9".
        work: what to do, as plain JSON values.
        fingerprint: hash of all that changes its result; empty until `fingerprinted`.
        content: hash of what its images depend on, if that is only their own class: it finds them again
            after classes were added. Empty if the result depends on all classes.
    """

    stage: StageName
    key: str
    title: str
    work: Mapping[str, Any]
    fingerprint: str = ""
    content: str = ""

    def fingerprinted(self, stage_fingerprint: str, inputs: Any, content: Any = None) -> WorkUnit:
        """This unit with the hash of its stage's config, its work and the digests of what it reads.

        Args:
            stage_fingerprint: of the config.
            inputs: what `Stage.inputs` gives.
            content: what `Stage.content` gives.
        """
        whole = {"stage": stage_fingerprint, "work": dict(self.work), "inputs": inputs}
        fingerprinted = replace(self, fingerprint=digest_of(whole))
        return fingerprinted if content is None else fingerprinted.with_content(content)

    def with_content(self, content: Any) -> WorkUnit:
        """This unit with the hash of its work and of what `Stage.content` gives."""
        return replace(self, content=digest_of({"work": dict(self.work), "content": content}))


@dataclass(frozen=True)
class UnitOutput:
    """What a unit made: shards (file name -> bytes and number of rows) and facts for its record.

    `meta` holds JSON values; its key `curves` (name -> list of floats) goes to the tracking.
    """

    shards: Mapping[str, tuple[bytes, int]]
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a unit ended: with a record, or with an error."""

    unit: WorkUnit
    record: Record | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline, as functions of a context. A stage never knows where it runs.

    Its settings are the section of the config that has its name, if there is one.

    Args:
        name: as on the command line.
        version: of the code that computes the result: raised when the same config gives other bytes.
        needs: stages whose manifests must exist.
        check: raises if the stage cannot work with a config and images. Called before any stage starts. The
            store is the run's and may hold results.
        plan: all units, in the order in which their results are put together.
        inputs: digests of the artifacts and data that a unit reads.
        run_unit: does one unit; no writing.
        finish: joins the units' records; returns the records that the manifest names, and its meta.
        finish_inputs: config values that change the result of `finish` but no unit, as JSON values.
        content: what a unit's images depend on, from the unit and its `inputs`, as JSON values; None if they
            depend on classes that it does not hold.
        choices_of_units: config fields that only choose which units there are. Each unit has its own value.
        growing: config fields that may rise in a finished run: a unit holds a part of their range, and later
            stages depend on all of it.
        sees_ipc: whether another `ipc` changes an existing unit.
        spread: "actors" (many small units) or "train" (whole trainings, spread over Ray Train workers).
        num_workers: DDP processes inside one unit.
    """

    name: StageName
    version: int
    needs: tuple[Stage, ...]
    plan: Callable[[StageContext], list[WorkUnit]]
    inputs: Callable[[StageContext, WorkUnit], Any]
    run_unit: Callable[[StageContext, WorkUnit], UnitOutput]
    finish: Callable[[StageContext, list[Record]], tuple[list[Record], dict[str, Any]]]
    finish_inputs: Callable[[StageContext], Any] = lambda context: None
    check: Callable[[RunConfig, OpenedDataset, Store], None] = lambda config, data, store: None
    content: Callable[[StageContext, WorkUnit, Any], Any] = lambda context, unit, inputs: None
    choices_of_units: frozenset[str] = frozenset()
    growing: frozenset[str] = frozenset()
    sees_ipc: Callable[[RunConfig], bool] = lambda config: False
    spread: Literal["actors", "train"] = "actors"
    num_workers: Callable[[RunConfig], int] = lambda config: 1

    @property
    def folder(self) -> str:
        """Name of its folder in a run."""
        return stage_folder(self.name)

    @property
    def lineage(self) -> tuple[Stage, ...]:
        """All stages that this one builds on, directly or not, then itself."""
        before = [stage for needed in self.needs for stage in needed.lineage]
        return (*dict.fromkeys(before), self)

    def ipc_matters(self, config: RunConfig) -> bool:
        """Whether another `ipc` changes its results or those that it builds on."""
        return any(stage.sees_ipc(config) for stage in self.lineage)


Execute = Callable[[Stage, StageContext, list[WorkUnit]], Iterable[Outcome]]


def blocks(total: int, size: int) -> Iterator[tuple[int, int]]:
    """(first, end) of consecutive blocks of `size` covering range(total); the last may be short."""
    for first in range(0, total, size):
        yield first, min(first + size, total)


def span(name: str, first: int, end: int) -> str:
    """'classes 40-49' for (40, 50); 'classes 3' for one."""
    return f"{name} {first}" if end == first + 1 else f"{name} {first}-{end - 1}"
