"""Facts that anyone may have written are accepted in one form only."""

from __future__ import annotations

from typing import Any

import pytest

from edc_ray.sharing.facts import checked_facts

STUDENT = {"row": "init", "ipc": 1, "student": "a", "seed": 0, "top1": 50}
TOLD: dict[str, Any] = {
    "method": "edc", "seed": 3, "config": None, "data": {"train": {"images": 9, "sha256": "ab", "more": 1}},
    "observers": {"convnet": {"sha256": "cd", "top1": None}}, "made_by": {"recover": {"commit": "ef"}},
    "results": {"students": [STUDENT, STUDENT | {"seed": 1, "ece": 0.5}]},
}  # fmt: skip


def test_facts_of_the_form_stay_as_they_are_and_nothing_else_is_kept() -> None:
    assert checked_facts(TOLD | {"files": {"a": 1}, "command": "rm"}) == TOLD
    unknown = TOLD | {"method": None, "seed": None, "data": None, "observers": {}, "results": None}
    assert checked_facts(unknown) == unknown


@pytest.mark.parametrize(
    "changed",
    [
        {"results": {"students": [STUDENT | {"row": "best"}]}},
        {"results": {"students": [STUDENT, STUDENT]}},
        {"results": {"students": [STUDENT | {"top1": float("nan")}]}},
        {"config": {"recover": 1}},
        {"observers": [1]},
        {"observers": {"convnet": {"top1": 1.0}}},
        {"made_by": {"recover": {"commit": ["x"]}}},
        {"method": "m" * 81},
        {"seed": "3"},
        {"data": {"train": {"images": 1}}},
    ],
)
def test_facts_of_another_form_are_not_believed(changed: dict[str, Any]) -> None:
    assert checked_facts(TOLD | changed) is None


def test_facts_of_an_earlier_version_have_the_names_of_now() -> None:
    relabel = {"epochs": 4, "mix": "cutmix"}
    config = {
        "device": "cpu", "precision": "float32", "init": {"kind": "mosaic"},
        "recover": {"enabled": True, "iterations": 3}, "relabel": relabel, "evaluate": {"labels": "stored"},
    }  # fmt: skip
    found = checked_facts(TOLD | {"config": config})
    assert found is not None
    assert found["config"] == config | {"relabel": relabel | {"labels": "stored"}, "evaluate": {}}


@pytest.mark.parametrize("told", [None, [], "text", {}, {"method": "edc"}])
def test_what_tells_nothing_is_no_fact(told: object) -> None:
    assert checked_facts(told) is None
