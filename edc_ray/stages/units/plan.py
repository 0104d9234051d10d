"""Work units, the stage that they belong to, and how a unit is done: the same way in every mode."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edc_ray.artifacts.proof.manifest import write_unit
from edc_ray.artifacts.proof.records import Record
from edc_ray.artifacts.storage.layout import stage_folder
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.run import RunConfig, StageName
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.digests import digest_of
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.numerics import unit_numerics
from edc_ray.stages.units.provenance import environment_facts, memory_facts


@dataclass(frozen=True)
class WorkUnit:
    """The smallest piece of work that is scheduled, retried and recorded. The config alone determines it.

    Args:
        stage: its stage.
        key: name of its files; unique in the stage.
        title: its name in messages, such as "classes 40-49, ipc 0-9".
        work: what to do, as plain JSON values.
        fingerprint: hash of all that changes its result; empty until `fingerprinted`.
        content: hash of what its images depend on, if that is only their own classes: it finds them after
            classes were added. Empty if the result depends on all classes.
    """

    stage: StageName
    key: str
    title: str
    work: Mapping[str, Any]
    fingerprint: str = ""
    content: str = ""

    def fingerprinted(self, stage_fingerprint: str, inputs: Any, content: Any = None) -> WorkUnit:
        """This unit with the hashes of its stage's config, its work, and its `Stage.inputs` and `content`."""
        whole = {"stage": stage_fingerprint, "work": dict(self.work), "inputs": inputs}
        fingerprinted = replace(self, fingerprint=digest_of(whole))
        return fingerprinted if content is None else fingerprinted.with_content(content)

    def with_content(self, content: Any) -> WorkUnit:
        """This unit with the hash of its work and its `Stage.content`."""
        return replace(self, content=digest_of({"work": dict(self.work), "content": content}))


@dataclass(frozen=True)
class UnitOutput:
    """What a unit made: shards (file name -> bytes, number of rows), and JSON values with its `curves`."""

    shards: Mapping[str, tuple[bytes, int]]
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a unit ended: with a record or an error."""

    unit: WorkUnit
    record: Record | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline, as functions of a context. Its settings are the section with its name.

    Args:
        name: as on the command line.
        version: of the code that computes the result: raise it when the same config gives other bytes.
        needs: stages whose manifests must exist.
        plan: all units, in the order in which their results are joined.
        inputs: digests of the artifacts and data that a unit reads.
        run_unit: does one unit, but writes nothing.
        finish: joins the units' records; returns the records that the manifest names, and its meta.
        finish_inputs: config values that change the result of `finish` but no unit, as JSON values.
        check: raises if the stage cannot work with a config and images. It is called before any stage starts.
            The store is the run's and may hold results.
        content: what a unit's images depend on, from the unit and its `inputs`, as JSON values; None if they
            depend on classes that it does not hold.
        choices_of_units: config fields that only choose which units there are. Each unit has its own value.
        growing: config fields that may rise in a finished run: a unit holds a part of their range, and later
            stages depend on all of it.
        sees_ipc: whether another `ipc` changes an existing unit.
        num_workers: DDP processes inside one unit.
        trains: whether units are whole trainings: a process may do several at the same time.
        prepare: makes what trainings at the same time share, before the first of them begins.
        passes: forward passes of one image through each network, in all units together, roughly; a step with
            gradients counts as three. They decide whether more than one worker is worth its start.
        images: how many images a unit trains on, measures, makes or labels, as its progress counts them.
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
    num_workers: Callable[[RunConfig], int] = lambda config: 1
    trains: bool = False
    prepare: Callable[[StageContext], None] = lambda context: None
    passes: Callable[[RunConfig, OpenedDataset], Mapping[str, int]] = lambda config, data: {}
    images: Callable[[StageContext, WorkUnit], int] = lambda context, unit: 0

    @property
    def folder(self) -> str:
        return stage_folder(self.name)

    @property
    def lineage(self) -> tuple[Stage, ...]:
        """All stages that this one builds on, then itself."""
        before = [stage for needed in self.needs for stage in needed.lineage]
        return (*dict.fromkeys(before), self)

    def ipc_matters(self, config: RunConfig) -> bool:
        """Whether another `ipc` changes results of this stage or of its `lineage`."""
        return any(stage.sees_ipc(config) for stage in self.lineage)


CONTENT = "content"
"""Key in a record's meta: `WorkUnit.content`."""
Execute = Callable[[Stage, StageContext, list[WorkUnit]], Iterable[Outcome]]


def blocks(total: int, size: int) -> Iterator[tuple[int, int]]:
    """(first, end) of consecutive blocks of `size` covering range(total); the last may be short."""
    for first in range(0, total, size):
        yield first, min(first + size, total)


def span(name: str, first: int, end: int) -> str:
    """'classes 40-49' for (40, 50); 'classes 3' for one."""
    return f"{name} {first}" if end == first + 1 else f"{name} {first}-{end - 1}"


def do_unit(context: StageContext, unit: WorkUnit, stage: Stage) -> Record:
    """Run one unit and store its shards, then its record."""
    started = time.monotonic()
    with unit_numerics(context.config, context.device):
        output = stage.run_unit(context, unit)
    meta = dict(output.meta) | memory_facts(context.device)
    meta |= {CONTENT: unit.content} if unit.content else {}
    return write_unit(
        context.store, stage.folder, unit.key, unit.fingerprint, dict(output.shards), meta,
        time.monotonic() - started, environment=environment_facts(context.device),
    )  # fmt: skip
