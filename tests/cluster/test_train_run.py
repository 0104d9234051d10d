from __future__ import annotations

import pickle

import pytest

from edc_ray.artifacts.proof.manifest import Record
from edc_ray.cluster.train_run import UnitDesk
from edc_ray.cluster.work_queue import UnitRaisedError, portable
from edc_ray.errors import NumericalError, ResourceError
from edc_ray.stages.units.plan import WorkUnit


def desk_of(*keys: str, retries: int = 1) -> UnitDesk:
    return UnitDesk([WorkUnit("squeeze", key, f"observer {key}", {}) for key in keys], retries)


def record_of(key: str) -> Record:
    return Record("squeeze", key, "print", ())


DIED: dict[int, Exception] = {0: UnitRaisedError(ValueError("x")), 1: RuntimeError("killed")}


def test_the_group_gets_one_unit_after_the_other_until_none_is_left() -> None:
    desk = desk_of("a", "b")
    assert [desk.next_unit(), desk.next_unit()] == ["a", "a"]
    desk.finish("a", record_of("a"))
    assert desk.next_unit() == "b"
    desk.finish("b", record_of("b"))
    assert desk.next_unit() is None
    assert [outcome.unit.key for outcome in desk.take()] == ["a", "b"]
    assert desk.take() == []


def test_a_unit_over_which_workers_die_is_reported_after_the_retries() -> None:
    desk = desk_of("a", "b")
    for _ in range(2):
        assert desk.next_unit() == "a"
        desk.group_failed(DIED)
    assert desk.next_unit() == "b"
    (outcome,) = desk.take()
    with pytest.raises(ResourceError, match="unit 'observer a' died 2 times"):
        raise outcome.error or AssertionError


def test_a_group_that_fails_between_units_blames_none() -> None:
    desk = desk_of("a", retries=0)
    desk.group_failed(DIED)
    assert desk.take() == []


def test_a_result_that_comes_twice_counts_once() -> None:
    desk = desk_of("a", "b")
    desk.next_unit()
    desk.finish("a", record_of("a"))
    assert desk.next_unit() == "b"
    desk.finish("a", record_of("a"))
    assert len(desk.take()) == 1
    assert desk.next_unit() == "b"


def test_a_group_whose_unit_raised_does_not_try_it_again() -> None:
    desk = desk_of("a", "b")
    desk.next_unit()
    desk.group_failed({1: UnitRaisedError(NumericalError("loss is NaN"))})
    assert desk.next_unit() == "b"
    assert str(desk.take()[0].error) == "loss is NaN"


@pytest.mark.parametrize(
    "errors",
    [
        {0: UnitRaisedError(ValueError("x")), 1: RuntimeError("actor died")},
        {0: UnitRaisedError(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"))},
        {0: UnitRaisedError(RuntimeError("AcceleratorError: CUDA error: unspecified launch failure"))},
    ],
)
def test_a_group_that_lost_a_rank_tries_its_unit_again(errors: dict[int, Exception]) -> None:
    desk = desk_of("a", "b")
    desk.next_unit()
    desk.group_failed(errors)
    assert desk.next_unit() == "a"
    assert desk.take() == []


class CannotTravelError(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


class DistBackendError(RuntimeError):
    """The name of torch's error."""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CannotTravelError("broken", "two"), "CannotTravelError: broken"),
        (ValueError("no"), "ValueError: no"),
    ],
)
def test_an_error_of_others_travels_as_its_name_and_text(error: Exception, text: str) -> None:
    sent = portable(error)
    assert type(sent) is RuntimeError
    assert str(pickle.loads(pickle.dumps(sent))) == text
    assert text in sent.__notes__[0]


def test_what_a_unit_of_a_group_raised_is_still_known_as_its_own_after_two_ways() -> None:
    desk = desk_of("a", "b")
    desk.next_unit()
    raised = UnitRaisedError(portable(ValueError("bad")))
    desk.group_failed({0: pickle.loads(pickle.dumps(portable(raised)))})
    assert desk.next_unit() == "b"
    assert str(desk.take()[0].error) == "ValueError: bad"


def test_a_broken_connection_that_travelled_is_still_known_as_one() -> None:
    desk = desk_of("a", "b")
    desk.next_unit()
    desk.group_failed({0: UnitRaisedError(portable(DistBackendError("rank 1 is gone")))})
    assert desk.next_unit() == "a"
    assert desk.take() == []


def test_an_error_of_ours_travels_whole_with_its_traceback() -> None:
    try:
        raise NumericalError("loss is NaN", next="lower the rate")
    except NumericalError as error:
        sent = pickle.loads(pickle.dumps(portable(error)))
    assert isinstance(sent, NumericalError)
    assert str(sent) == "loss is NaN\n  next:     lower the rate"
    assert "test_an_error_of_ours" in sent.__notes__[0]
