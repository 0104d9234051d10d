"""The pipeline: finished units are reused, damaged ones are made again, a failing unit stops no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edc_ray.artifacts.proof.manifest import read_manifest, verify_run
from edc_ray.artifacts.storage.layout import join_path, manifest_path, record_path, stage_folder
from edc_ray.config.run import STAGE_NAMES, StageName
from edc_ray.core.recover.loop import recover_images
from edc_ray.core.recover.state import LoopState
from edc_ray.errors import ArtifactError, DataError, NumericalError, StorageError, UnitsFailedError
from edc_ray.report.run_report import result_rows
from edc_ray.stages.pipeline import STAGES, run_pipeline, run_stage
from edc_ray.stages.recover import stage as recover
from edc_ray.stages.relabel import stage as relabel
from edc_ray.stages.side_by_side.execution import execute_here
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import Outcome, Stage, WorkUnit
from tests.stages.tiny_runs import (
    image_hashes,
    manifest_of,
    run_until,
    shard_hashes,
    tiny_context,
    units_of,
)

Copied = Callable[..., StageContext]


def _work(context: StageContext) -> dict[str, tuple[int, int]]:
    """Units (made, reused) of each stage in a run of everything."""
    return {report.stage: (report.units_done, report.units_reused) for report in run_pipeline(context)}


def test_a_second_run_makes_nothing_and_changes_no_byte(copied: Copied) -> None:
    context = copied()
    before = {path: context.store.read(path) for path in context.store.list()}
    assert _work(context) == {stage: (0, len(units_of(context, stage))) for stage in STAGE_NAMES}
    assert {path: context.store.read(path) for path in context.store.list()} == before


def test_stages_run_alone_and_in_new_processes_equal_one_run_of_everything(finished: StageContext) -> None:
    context = tiny_context()
    root = context.store.url.rsplit("/", 1)[0]
    for stage in STAGE_NAMES:
        run_pipeline(tiny_context(root), [stage])
    assert shard_hashes(context) == shard_hashes(finished)
    for stage in STAGE_NAMES:
        assert manifest_of(context, stage).fingerprint == manifest_of(finished, stage).fingerprint


def test_stages_run_in_the_order_of_the_pipeline_whatever_order_is_asked_for() -> None:
    context = tiny_context()
    reports = run_pipeline(context, ["init", "statistics", "squeeze"])
    assert [report.stage for report in reports] == ["squeeze", "statistics", "init"]


@pytest.mark.parametrize("stage", [name for name in STAGE_NAMES if name != "squeeze"])
def test_a_stage_without_what_it_needs_says_which_stage_to_run(stage: StageName) -> None:
    context = tiny_context()
    with pytest.raises(ArtifactError, match="squeeze: no complete artifact") as caught:
        run_pipeline(context, [stage])
    assert "edc-ray stage squeeze" in str(caught.value.next)
    assert not context.store.list(stage_folder(stage))


@pytest.mark.parametrize(
    ("stage", "needed"), [(stage, needed.name) for stage in STAGE_NAMES for needed in STAGES[stage].needs]
)
def test_each_needed_manifest_is_missed(copied: Copied, stage: StageName, needed: StageName) -> None:
    context = copied(needed, stage)
    with pytest.raises(ArtifactError, match=f"{needed}: no complete artifact"):
        run_pipeline(context, [stage])


def test_a_stage_alone_does_not_build_on_fewer_images_than_ipc_asks_for(copied: Copied) -> None:
    context = copied("recover", "relabel", "evaluate", ipc=3)
    with pytest.raises(ArtifactError, match=r"init: the artifact in .* is not complete") as caught:
        run_pipeline(context, ["recover"])
    assert "edc-ray stage init" in str(caught.value.next)
    context = copied("relabel", "evaluate", ipc=3)
    with pytest.raises(ArtifactError, match="init: initial images are missing"):
        run_pipeline(context, ["relabel"])


def test_a_stage_alone_does_not_build_on_an_observer_that_is_not_trained(copied: Copied) -> None:
    context = copied(
        "statistics", "init", "recover", "relabel", "evaluate",
        squeeze__observers=["convnet_d1", "wrn_16_2", "convnet_d2"],
    )  # fmt: skip
    with pytest.raises(ArtifactError, match=r"squeeze: the artifact in .* is not complete"):
        run_pipeline(context, ["init"])


def test_a_stage_alone_does_not_build_on_a_damaged_file(copied: Copied) -> None:
    context = copied("evaluate")
    shard = manifest_of(context, "relabel").shards[0]
    path = join_path(stage_folder("relabel"), shard.path)
    context.store.publish(path, context.store.read(path)[:-20], replace=True)
    with pytest.raises(ArtifactError, match=r"relabel: the artifact in .* is not complete") as caught:
        run_pipeline(context, ["evaluate"])
    assert "edc-ray verify" in str(caught.value.found)
    assert not context.store.list(stage_folder("evaluate"))


def _truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("stage", STAGE_NAMES)
@pytest.mark.parametrize("harm", [None, _truncated, _flipped], ids=["deleted", "truncated", "flipped"])
def test_a_damaged_shard_is_made_again_alone_with_the_same_bytes(
    copied: Copied, finished: StageContext, stage: StageName, harm: Callable[[bytes], bytes] | None
) -> None:
    context = copied()
    path = join_path(stage_folder(stage), manifest_of(context, stage).shards[-1].path)
    _harm(context, path, harm)
    work = _work(context)
    # The tables of statistics are built again from the sums, which are still there.
    made = 0 if stage == "statistics" else 1
    assert work.pop(stage) == (made, len(units_of(context, stage)) - made)
    assert all(done == 0 for done, _ in work.values())
    assert shard_hashes(context) == shard_hashes(finished)
    assert verify_run(context.store) == []


@pytest.mark.parametrize("stage", STAGE_NAMES)
@pytest.mark.parametrize("harm", [None, _truncated], ids=["deleted", "truncated"])
def test_a_damaged_record_and_no_manifest_remake_that_unit_alone(
    copied: Copied, finished: StageContext, stage: StageName, harm: Callable[[bytes], bytes] | None
) -> None:
    context = copied()
    unit = units_of(context, stage)[0]
    _harm(context, record_path(stage_folder(stage), unit.key), harm)
    context.store.delete(manifest_path(stage_folder(stage)))
    work = _work(context)
    assert work.pop(stage) == (1, len(units_of(context, stage)) - 1)
    assert all(done == 0 for done, _ in work.values())
    assert shard_hashes(context) == shard_hashes(finished)


@pytest.mark.parametrize("harm", [None, _truncated], ids=["deleted", "truncated"])
def test_a_damaged_manifest_is_written_again_from_the_records(
    copied: Copied, finished: StageContext, harm: Callable[[bytes], bytes] | None
) -> None:
    context = copied()
    for stage in STAGE_NAMES:
        _harm(context, manifest_path(stage_folder(stage)), harm)
    assert all(done == 0 for done, _ in _work(context).values())
    assert shard_hashes(context) == shard_hashes(finished)


def test_a_manifest_of_a_newer_schema_is_refused_and_not_replaced(copied: Copied) -> None:
    context = copied()
    path = manifest_path(stage_folder("recover"))
    newer = context.store.read(path).replace(b'"schema_version":1', b'"schema_version":2')
    context.store.publish(path, newer, replace=True)
    with pytest.raises(ArtifactError, match="written by a newer edc-ray") as caught:
        run_pipeline(context)
    assert "upgrade" in str(caught.value.next)
    assert context.store.read(path) == newer


def test_what_builds_on_a_stage_that_is_made_again_no_longer_counts_as_complete(copied: Copied) -> None:
    context = copied()
    context.store.delete(join_path("condensed", manifest_of(context, "recover").shards[0].path))
    run_pipeline(context, ["recover"])
    complete = [stage for stage in STAGE_NAMES if read_manifest(context.store, stage_folder(stage))]
    assert complete == ["squeeze", "statistics", "init", "recover"]
    assert result_rows(context.store) == []
    assert all(done == 0 for done, _ in _work(context).values()), "equal bytes prove the units that are there"
    assert len(result_rows(context.store)) == 5


def test_a_stage_that_fails_is_not_complete_by_what_it_was_before(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = copied()
    context.store.delete(join_path("condensed", manifest_of(context, "recover").shards[0].path))
    _poison(monkeypatch, label=0, from_iteration=1)
    with pytest.raises(UnitsFailedError):
        run_pipeline(context)
    assert not context.store.exists(manifest_path("condensed"))
    assert not context.store.exists(manifest_path("results"))


def test_a_cited_accuracy_given_later_is_shown(copied: Copied) -> None:
    context = copied(evaluate__full="skip", evaluate__full_accuracy=93.5)
    assert _work(context)["evaluate"] == (0, 8)
    assert manifest_of(context, "evaluate").meta["full_cited"] == 93.5


def test_observers_that_were_let_pass_are_refused_once_they_must_not_be_weak(copied: Copied) -> None:
    context = copied("statistics", dataset__allow_weak_observers=False)
    with pytest.raises(DataError, match="does not know the classes"):
        run_pipeline(context)
    assert not context.store.list("statistics")


def test_everything_after_a_deleted_observer_is_reused_when_it_comes_back_equal(copied: Copied) -> None:
    context = copied()
    for path in context.store.list(stage_folder("squeeze")):
        context.store.delete(path)
    work = _work(context)
    assert work.pop("squeeze") == (2, 0)
    assert all(done == 0 for done, _ in work.values())


def _harm(context: StageContext, path: str, harm: Callable[[bytes], bytes] | None) -> None:
    if harm is None:
        context.store.delete(path)
    else:
        context.store.publish(path, harm(context.store.read(path)), replace=True)


def _poison(monkeypatch: pytest.MonkeyPatch, label: int, from_iteration: int) -> None:
    """From an iteration on, a convolution of wrn_16_2 gives NaN while it sees images of one class."""

    def poisoned(state: LoopState, labels_B: Tensor, observers: Any, *rest: Any, **named: Any) -> LoopState:
        if label not in labels_B.tolist():
            return recover_images(state, labels_B, observers, *rest, **named)
        network = next(observer.network for observer in observers if observer.name == "wrn_16_2")
        before_last = [one for one in network.modules() if isinstance(one, nn.Conv2d)][-2]
        calls = []

        def spoil(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            calls.append(1)
            turn = 2 * (len(calls) - 1) + 1  # observers take turns, this one is the second
            return output * float("nan") if turn >= from_iteration else output

        handle = before_last.register_forward_hook(spoil)
        try:
            return recover_images(state, labels_B, observers, *rest, **named)
        finally:
            handle.remove()

    monkeypatch.setattr(recover, "recover_images", poisoned)


def test_a_poisoned_unit_is_reported_and_made_alone_by_the_next_run(
    copied: Copied, finished: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = copied("recover", "relabel", "evaluate", recover__iterations=6)
    events: list[dict[str, Any]] = []
    with monkeypatch.context() as patch:
        _poison(patch, label=1, from_iteration=3)
        with pytest.raises(UnitsFailedError, match="recover: 1 of 3 units failed") as caught:
            run_pipeline(context, on_event=events.append)
    message = str(caught.value)
    assert caught.value.exit_status == 3
    assert "classes 1, ipc 0-1" in message
    assert "iteration 3" in message
    assert "observer 'wrn_16_2'" in message
    assert "layer '" in message
    failed = [event for event in events if event["event"] == "unit_failed"]
    assert [event["title"] for event in failed] == ["classes 1, ipc 0-1"]
    assert failed[0]["error"].startswith("NumericalError")
    assert sum(event["event"] == "unit_done" and event["stage"] == "recover" for event in events) == 2
    assert events[-1]["event"] == "stage_failed"
    assert not context.store.exists(manifest_path("condensed"))
    assert not context.store.list(stage_folder("relabel"))

    work = _work(context)
    assert work["recover"] == (1, 2)
    calm = tiny_context(recover__iterations=6)
    run_until(calm, "recover")
    assert image_hashes(context) == image_hashes(calm)


def test_a_nan_among_the_initial_images_names_the_unit(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = recover._start_images

    def poisoned(context: StageContext, batch: list[tuple[int, int]]) -> Tensor:
        images = real(context, batch)
        return images * float("nan") if batch[0][0] == 2 else images

    monkeypatch.setattr(recover, "_start_images", poisoned)
    context = copied("recover", "relabel", "evaluate")
    with pytest.raises(UnitsFailedError, match="input images, before the first iteration") as caught:
        run_pipeline(context)
    assert "classes 2, ipc 0-1" in str(caught.value)


def test_a_broken_soft_label_stops_its_unit(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relabel, "ensemble_logits", lambda logits, norm: logits[0] * float("inf"))
    with pytest.raises(UnitsFailedError, match="relabel: 2 of 2 units failed") as caught:
        run_pipeline(copied("relabel", "evaluate"), ["relabel"])
    assert "a soft label is NaN or Inf" in str(caught.value)


def test_a_failed_unit_hands_its_own_error_back(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    _poison(monkeypatch, label=0, from_iteration=1)
    context = copied("recover", "relabel", "evaluate")
    outcomes = list(execute_here(STAGES["recover"], context, units_of(context, "recover")))
    assert [outcome.record is None for outcome in outcomes] == [True, False, False]
    assert isinstance(outcomes[0].error, NumericalError)


def test_the_order_in_which_units_end_changes_nothing(copied: Copied, finished: StageContext) -> None:
    def backwards(stage: Any, context: StageContext, units: list[Any]) -> Any:
        return execute_here(stage, context, units[::-1])

    context = tiny_context()
    run_pipeline(context, execute=backwards)
    assert shard_hashes(context) == shard_hashes(finished)
    for stage in STAGE_NAMES:
        mine, theirs = manifest_of(context, stage), manifest_of(finished, stage)
        assert [record.unit for record in mine.records] == [record.unit for record in theirs.records]
        assert mine.meta == theirs.meta


def test_only_units_without_proof_are_handed_out(copied: Copied) -> None:
    context = copied()
    stage, units = STAGES["recover"], units_of(context, "recover")
    context.store.delete(join_path("condensed", manifest_of(context, "recover").shards[1].path))
    handed: list[str] = []

    def execute(stage: Any, context: StageContext, missing: list[Any]) -> Any:
        handed.extend(unit.key for unit in missing)
        return execute_here(stage, context, missing)

    run_stage(context, stage, execute, lambda event: None)
    assert handed == [units[1].key]


def test_storage_that_failed_for_long_ends_the_run_with_its_own_error(copied: Copied) -> None:
    context = copied("recover", "relabel", "evaluate")
    gone = StorageError("cannot write s3://a", found="OSError: no space left")

    def execute(stage: Stage, context: StageContext, missing: list[WorkUnit]) -> Iterator[Outcome]:
        yield from execute_here(stage, context, missing[:1])
        yield Outcome(missing[1], error=gone)

    events: list[dict[str, Any]] = []
    with pytest.raises(StorageError, match="recover: cannot write s3://a") as caught:
        run_stage(context, STAGES["recover"], execute, events.append)
    assert (caught.value.found, caught.value.exit_status) == (gone.found, 2)
    assert "1 of 3 units of recover are kept" in str(caught.value.next)
    assert (events[-1]["event"], events[-1]["units_done"]) == ("stage_failed", 1)


def test_events_tell_of_every_unit_with_its_curves(copied: Copied) -> None:
    events: list[dict[str, Any]] = []
    context = copied("recover", "relabel", "evaluate")
    run_pipeline(context, on_event=events.append)
    reused = [event["stage"] for event in events if event["event"] == "stage_reused"]
    assert reused == ["squeeze", "statistics", "init"]
    done = [event for event in events if event["event"] == "unit_done" and event["stage"] == "recover"]
    assert [event["unit"] for event in done] == [unit.key for unit in units_of(context, "recover")]
    curves = done[0]["curves"]
    assert len(curves["loss"]) == len(curves["learning_rate"]) == 2  # turns of the two observers
    assert len(curves["matching_loss/convnet_d1"]) == 2
    assert len(curves["matching_loss/wrn_16_2"]) == 1
    shown = Counter[str]()
    for event in events:
        shown[event["stage"]] += event.get("images", 0)
    slots = context.config.ipc * len(context.data.train.class_names)
    assert shown["recover"] == slots
    assert shown["relabel"] == slots * context.config.relabel.epochs
    assert shown["evaluate"] == slots * context.config.training_epochs * 10
    started = [event for event in events if event["event"] == "stage_started"]
    assert [(event["stage"], event["units"], event["reused"]) for event in started] == [
        ("recover", 3, 0),
        ("relabel", 2, 0),
        ("evaluate", 10, 0),
    ]


def test_units_do_not_depend_on_torchs_thread_setting_of_the_process(
    copied: Copied, finished: StageContext
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        context = copied("recover", "relabel", "evaluate")
        run_pipeline(context)
    finally:
        torch.set_num_threads(before)
    assert shard_hashes(context) == shard_hashes(finished)
