from __future__ import annotations

import logging
from pathlib import Path

import pytest
import ray
from ray.exceptions import RayActorError

from edc_ray.artifacts.storage.store import Store
from edc_ray.cluster.actors import ActorPool, _warn_if_it_fails, went_with_its_node
from edc_ray.cluster.resources import WorkerSize
from edc_ray.errors import ResourceError, StorageError


def test_the_driver_says_that_storage_fails_while_workers_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(str(tmp_path))
    with caplog.at_level(logging.WARNING):
        _warn_if_it_fails(store)
        assert not caplog.messages

        def full(*_: object, **__: object) -> bool:
            raise StorageError("cannot write a", found="OSError: no space left")

        monkeypatch.setattr(Store, "publish", full)
        _warn_if_it_fails(store)
    (told,) = caplog.messages
    assert told == (
        "storage fails: cannot write a (OSError: no space left); workers keep their results and try again"
    )


@pytest.mark.parametrize(
    ("text", "with_its_node"),
    [
        ("The actor died because its node has died. Node Id: 12\n\tthe actor's node was terminated", True),
        ("The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR", False),
        ("Task was killed due to the node running low on memory.", False),
    ],
)
def test_a_death_with_the_node_is_told_from_that_of_a_process(text: str, with_its_node: bool) -> None:
    assert went_with_its_node(RayActorError(error_msg=text)) == with_its_node


def test_an_actor_that_ray_calls_preempted_is_no_fault_of_its_unit() -> None:
    assert went_with_its_node(RayActorError(error_msg="gone", preempted=True))


def test_work_that_waits_for_room_is_told_and_ends_with_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray, "remote", lambda **_: lambda kind: None)
    monkeypatch.setattr(ray, "wait", lambda pending, **_: ([], pending))
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 0.5})
    pool = ActorPool(WorkerSize(1, 1))
    pool._pending = {object(): (1, "")}  # type: ignore[dict-item]
    pool._longest_wait = 60.0
    assert pool.wait().kind == "late"
    with pytest.raises(ResourceError, match="no actor could start for 60 s") as caught:
        pool.wait()
    assert caught.value.found == "0.5 CPUs and 0 GPUs free in the cluster"
    assert "room for one with 1 CPUs and 1 GPUs" in str(caught.value.expected)
    assert caplog.messages[0] == (
        "work waits for an actor since 30 s; the cluster has 0.5 CPUs and 0 GPUs free"
    )
    pool._pending = {object(): (1, "a")}  # type: ignore[dict-item]
    assert pool.wait().kind == "tick"
