"""A folder takes one export: what an interrupted one left is finished, anything else is left alone."""

from __future__ import annotations

import hashlib
import json

import pytest

from edc_ray.artifacts.proof.manifest import Problem
from edc_ray.artifacts.storage.store import open_store
from edc_ray.errors import ConfigError
from edc_ray.sharing.export.target import ExportTarget, export_problems
from edc_ray.sharing.facts import ABOUT
from tests.stages.tiny_runs import new_root


def test_an_interrupted_export_goes_on_and_replaces_what_is_damaged() -> None:
    store = open_store(new_root())
    first = ExportTarget(store, "same")
    first.begin()
    first.put("a", b"whole")
    first.put("b", b"whole")
    store.publish("b", b"half", replace=True)
    with pytest.raises(ConfigError, match="is not empty"):
        ExportTarget(store, "other")
    again = ExportTarget(store, "same")
    again.begin()
    again.put_all([("a", b"whole"), ("b", b"whole")])
    assert not store.exists(ABOUT)
    again.finish({"what": "this"})
    assert store.list() == ["a", "b", ABOUT]
    stated = json.loads(store.read(ABOUT))
    assert (stated["what"], stated["fingerprint"]) == ("this", "same")
    assert stated["files"]["b"] == {"bytes": 5, "sha256": hashlib.sha256(b"whole").hexdigest()}
    assert store.read("b") == b"whole"


def test_a_finished_export_is_mended_by_the_same_and_kept_from_another() -> None:
    store = open_store(new_root())
    target = ExportTarget(store, "same")
    target.begin()
    target.put("a", b"whole")
    target.finish({})
    ExportTarget(store, "same")
    with pytest.raises(ConfigError, match="is not empty"):
        ExportTarget(store, "other")


@pytest.mark.parametrize("said", [b"{", b"[]", b'{"fingerprint": 1}', b"\xff"])
def test_a_folder_that_holds_something_else_is_refused_and_stays_as_it_is(said: bytes) -> None:
    store = open_store(new_root())
    store.publish(ABOUT, said)
    with pytest.raises(ConfigError, match="is not empty"):
        ExportTarget(store, "same")
    assert store.list() == [ABOUT]


def test_a_folder_may_hold_other_parts() -> None:
    store = open_store(new_root())
    store.publish("images/a", b"1")
    with pytest.raises(ConfigError, match="images is not empty"):
        ExportTarget(store, "same", ["labels", "images"])
    labels = ExportTarget(store, "same", ["labels"])
    labels.begin()
    labels.put("labels/a", b"2")
    assert store.list() == ["export-unfinished", "images/a", "labels/a"]
    labels.finish()
    assert store.list() == ["images/a", "labels/a"]


def test_verify_names_what_is_missing_damaged_or_unfinished() -> None:
    store = open_store(new_root())
    assert export_problems(store) == []
    target = ExportTarget(store, "same")
    target.begin()
    assert "is unfinished" in export_problems(store)[0].problem
    target.put_all([("a", b"whole"), ("b", b"whole"), ("c", b"whole")])
    target.finish({})
    assert export_problems(store) == []
    store.publish("a", b"wholf", replace=True)
    store.delete("b")
    assert [(one.path, one.problem.split()[-1]) for one in export_problems(store)] == [
        ("a", "one"), ("b", "missing")
    ]  # fmt: skip


@pytest.mark.parametrize("said", [b"[" * 100_000, b"{}", b'{"files": 3}', b'{"files": {"a": 1}}'])
def test_a_list_of_files_that_is_none_is_a_problem(said: bytes) -> None:
    store = open_store(new_root())
    store.publish(ABOUT, said)
    assert export_problems(store)


def test_paths_out_of_the_folder_and_files_of_no_size_are_problems_and_not_read() -> None:
    store = open_store(new_root())
    store.publish(ABOUT, b'{"files": {"../a": {"bytes": 1}, "b": {}, "c": null, "d": {"bytes": -1}}}')
    outside, *others = export_problems(store)
    assert outside == Problem("../a", "'../a' is not a path inside the store")
    assert others == [Problem(path, "edc_ray.json does not state its size") for path in "bcd"]
