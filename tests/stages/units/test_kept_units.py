"""Classes are added to a run: units that stay equal those of a run that begins with all classes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from edc_ray.artifacts.proof.manifest import verify_run
from edc_ray.artifacts.proof.records import parse_record, to_json
from edc_ray.artifacts.storage.layout import record_path, stage_folder
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.run import STAGE_NAMES, StageName
from edc_ray.data.condensed.images import CondensedViews
from edc_ray.errors import ConfigError
from edc_ray.models.registry import build_network
from edc_ray.stages.pipeline import STAGES, run_pipeline
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.kept_units import CONTENT
from edc_ray.stages.units.plan import Stage, UnitOutput, WorkUnit
from tests.stages.more_classes import REAL, five_classes, root_of, run_of
from tests.stages.tiny_runs import (
    copy_root,
    image_hashes,
    manifest_of,
    run_until,
    units_of,
)

Work = dict[str, tuple[int, int]]

GIVEN = {"dataset__mean": [0.3], "dataset__std": [0.2]}
JPEG = REAL | {"recover__image_format": "jpeg"}
REPEATED = REAL | {"init__replacement": True, "init__mirror": True, "dataset__flip": True}
ONE_BY_ONE = REAL | {
    "init__ipc_per_unit": 1, "init__classes_per_unit": 1,
    "recover__order": "ipc_major", "recover__batch_size": 3,
}  # fmt: skip
LOCAL = {"recover__category_aware": "local", "recover__global_weight": 0.5}
METHODS: dict[str, tuple[dict[str, Any], Work]] = {
    "real": (REAL, {"init": (2, 1), "recover": (2, 1)}),
    "real, repeated": (REPEATED, {"init": (2, 1), "recover": (2, 1)}),
    "real, as jpeg": (JPEG, {"init": (2, 1), "recover": (2, 1)}),
    "real, in other blocks": (ONE_BY_ONE, {"init": (4, 6), "recover": (2, 2)}),
    "real, recovered": ({"init__kind": "real"}, {"init": (2, 1), "recover": (3, 0)}),
    "noise": ({"init__kind": "noise"} | GIVEN, {"init": (2, 1), "recover": (3, 0)}),
    "noise, mean measured": ({"init__kind": "noise"}, {"init": (3, 0), "recover": (3, 0)}),
    "mosaics": ({"recover__enabled": False}, {"init": (3, 0), "recover": (3, 0)}),
    "mosaics, recovered": (LOCAL, {"init": (3, 0), "recover": (3, 0)}),
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(stage, unit) of every unit that is made, in order."""
    found: list[tuple[str, str]] = []

    def noted(stage: Stage) -> Stage:
        def run_unit(context: StageContext, unit: WorkUnit) -> UnitOutput:
            found.append((stage.name, unit.key))
            return stage.run_unit(context, unit)

        return replace(stage, run_unit=run_unit)

    for name, stage in list(STAGES.items()):
        monkeypatch.setitem(STAGES, name, noted(stage))
    return found


def work_of(context: StageContext, last: StageName) -> Work:
    """Units (made, reused) of each stage."""
    return {report.stage: (report.units_done, report.units_reused) for report in run_until(context, last)}


def check_that_it_equals_a_calm_run(grown: StageContext, calm: StageContext, last: StageName) -> None:
    """Shards in the same bytes, and nothing else in folders that others read."""
    run_until(calm, last)
    for stage in STAGE_NAMES[: STAGE_NAMES.index(last) + 1]:
        ours, theirs = manifest_of(grown, stage), manifest_of(calm, stage)
        assert (ours.shards, ours.fingerprint, ours.dataset, ours.meta) == (
            theirs.shards, theirs.fingerprint, theirs.dataset, theirs.meta
        ), stage  # fmt: skip
        if stage in ("init", "recover", "relabel"):
            folder = stage_folder(stage)
            assert set(grown.store.list(folder)) == set(calm.store.list(folder))
    assert verify_run(grown.store) == []


@pytest.mark.parametrize(("fields", "expected"), METHODS.values(), ids=METHODS)
def test_a_run_of_more_classes_has_the_bytes_of_one_that_began_with_them(
    fields: dict[str, Any], expected: Work, made: list[tuple[str, str]]
) -> None:
    few = run_of(3, **fields)
    run_until(few, "recover" if expected["recover"][1] else "init")  # no complete image is made again
    grown = run_of(5, root_of(few), **fields)
    made.clear()
    work = work_of(grown, "recover")
    assert {stage: work[stage] for stage in expected} == expected
    assert len(made) == sum(done for done, _ in work.values())
    check_that_it_equals_a_calm_run(grown, run_of(5, **fields), "recover")


@pytest.mark.parametrize("fields", [fields for fields, work in METHODS.values() if not work["recover"][1]])
def test_complete_images_of_which_none_could_stay_are_not_lost(fields: dict[str, Any]) -> None:
    few = run_of(3, **fields)
    run_until(few, "recover")
    before = {path: few.store.read(path, limit=2**20) for path in few.store.list("")}
    with pytest.raises(ConfigError, match=r"(?s)all condensed images .* 3 classes.*Give another run.name"):
        run_of(5, root_of(few), **fields)
    assert {path: few.store.read(path, limit=2**20) for path in few.store.list("")} == before


def test_labels_and_students_are_made_again_from_all_images() -> None:
    few = run_of(3, **REAL)
    run_until(few, "evaluate")
    grown = run_of(5, root_of(few), **REAL)
    assert work_of(grown, "evaluate")["relabel"] == (1, 0)
    check_that_it_equals_a_calm_run(grown, run_of(5, **REAL), "evaluate")
    assert CondensedViews(grown.store.url).rows.logits.shape == (10, 5)
    again = run_pipeline(run_of(5, root_of(few), **REAL))
    assert sum(report.units_done for report in again) == 0


def test_more_classes_and_more_images_at_once_keep_whole_blocks() -> None:
    fields: dict[str, Any] = REAL | {"recover__ipc_per_unit": 2}
    few = run_of(3, **fields)
    run_until(few, "recover")
    grown = run_of(5, root_of(few), ipc=4, **fields)
    work = work_of(grown, "recover")
    assert (work["init"], work["recover"]) == ((5, 1), (5, 1))
    check_that_it_equals_a_calm_run(grown, run_of(5, ipc=4, **fields), "recover")


def test_images_of_another_run_stay_whatever_made_them() -> None:
    whole = run_of(5)
    run_until(whole, "recover")
    fields: dict[str, Any] = {"init__source": whole.store.url, "recover__enabled": False, "run__name": "part"}
    few = run_of(3, **fields)
    run_until(few, "recover")
    grown = run_of(5, root_of(few), **fields)
    work = work_of(grown, "recover")
    assert (work["init"], work["recover"]) == ((2, 1), (2, 1))
    assert image_hashes(grown) == image_hashes(whole)


def test_pretrained_observers_take_more_outputs_of_their_files_and_all_is_made_again(tmp_path: Path) -> None:
    network = build_network("wrn_16_2", num_classes=9, image_size=8, channels=1, seed=3)
    data = safetensors.torch.save(dict(network.state_dict()))
    (tmp_path / "weights").write_bytes(data)
    source = {"url": str(tmp_path / "weights"), "sha256": hashlib.sha256(data).hexdigest()}
    outputs = [7, 0, 3, 5, 1]
    fields: dict[str, Any] = {
        "squeeze__observers": ["wrn_16_2"], "squeeze__epochs": 0, "squeeze__weights": {"wrn_16_2": source},
        "recover__layers": ["bn"], "recover__variance": "official", "recover__category_aware": "none",
        "init__kind": "noise",
    } | GIVEN  # fmt: skip
    few = run_of(3, squeeze__head_classes=outputs[:3], **fields)
    run_until(few, "init")
    grown = run_of(5, root_of(few), squeeze__head_classes=outputs, **fields)
    work = work_of(grown, "recover")
    assert work == {"squeeze": (1, 0), "statistics": (1, 0), "init": (2, 1), "recover": (3, 0)}
    calm = run_of(5, squeeze__head_classes=outputs, **fields)
    check_that_it_equals_a_calm_run(grown, calm, "recover")


def test_a_unit_whose_images_changed_is_made_again() -> None:
    few = run_of(4, **REAL)
    run_until(few, "recover")
    other = five_classes(darker=3)
    grown = run_of(5, root_of(few), **REAL, **other)
    assert work_of(grown, "recover")["init"] == (2, 1)
    check_that_it_equals_a_calm_run(grown, run_of(5, **REAL, **other), "recover")


@pytest.mark.parametrize("damage", ["record of an earlier edc-ray", "damaged shard"])
def test_what_does_not_prove_its_content_is_made_again(damage: str) -> None:
    few = run_of(4, **REAL)
    run_until(few, "recover")
    unit = units_of(few, "init")[0]
    path = record_path("init", unit.key)
    if damage == "damaged shard":
        path, text = f"init/{unit.key}.parquet", b"short"
    else:
        record = parse_record(few.store.read(path), path)
        assert record is not None
        text = to_json(replace(record, meta={name: v for name, v in record.meta.items() if name != CONTENT}))
    few.store.publish(path, text, replace=True)
    grown = run_of(5, root_of(few), **REAL)
    assert work_of(grown, "recover")["init"] == (2, 1)
    check_that_it_equals_a_calm_run(grown, run_of(5, **REAL), "recover")


class Killed(BaseException):
    """The process is gone: no handler of errors may catch this."""


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`killed_at(3)`: from now on, the third change of any store does not happen."""
    left = [0]
    for name in ("publish", "delete"):
        original = getattr(Store, name)

        def change(*args: Any, _original: Any = original, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return _original(*args, **kwargs)

        monkeypatch.setattr(Store, name, change)

    def at(step: int) -> None:
        left[0] = step

    return at


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.nightly)])
def test_a_run_that_is_killed_at_any_step_of_keeping_units_completes(
    killed_at: Callable[[int], None], every: int
) -> None:
    few = run_of(3, **REAL)
    run_until(few, "recover")
    begun, calm = run_of(4, root_of(few), **REAL), run_of(4, **REAL)
    run_until(begun, "statistics")
    context, step = run_of(4, copy_root(begun.store), **REAL), 1
    while not _ends(context, killed_at, step):
        assert verify_run(context.store) == []
        again = run_of(4, root_of(context), **REAL)
        run_pipeline(again, ["init", "recover"])
        check_that_it_equals_a_calm_run(again, calm, "recover")
        for path in again.store.list():
            again.store.delete(path)
        context, step = run_of(4, copy_root(begun.store), **REAL), step + every
    assert step > 20


def _ends(context: StageContext, killed_at: Callable[[int], None], step: int) -> bool:
    """Whether the run comes to its end before the step at which it is killed."""
    killed_at(step)
    try:
        run_pipeline(context, ["init", "recover"])
    except Killed:
        return False
    finally:
        killed_at(0)
    return True
