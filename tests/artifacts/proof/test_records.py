from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from edc_ray.artifacts.proof.records import Manifest, Record, ShardInfo, parse_manifest, parse_record, to_json
from edc_ray.errors import ArtifactError
from tests.fuzz.mutations import without_digest

RECORD = Record(
    "recover", "u0", "f" * 64, (ShardInfo("a.parquet", 3, "0" * 64, 1),), {"b": 1, "a": [1.5]}, 2.5
)
MANIFEST = Manifest("recover", "f", "c", {"name": "pets", "class_names": ["cat"]}, (RECORD,), {"mean": [0.5]})


def test_json_gives_back_the_same_values_with_sorted_keys() -> None:
    assert parse_record(to_json(RECORD), "x") == RECORD
    assert parse_manifest(to_json(MANIFEST), "x") == MANIFEST
    assert list(json.loads(to_json(RECORD))["meta"]) == ["a", "b"]


@pytest.mark.parametrize(
    "change",
    [
        {"shards": [{"path": 1, "bytes": 3, "sha256": "0", "rows": 1}]},
        {"shards": [{"path": "a", "bytes": True, "sha256": "0", "rows": 1}]},
        {"shards": [{"path": "a"}]},
        {"shards": ["a"]},
        {"shards": None},
        {"meta": []},
        {"seconds": "soon"},
        {"schema_version": "1"},
        {"schema_version": 1e300},
        {"schema_version": True},
        {"unit": None},
    ],
)
def test_json_with_a_wrong_field_is_no_record(change: dict[str, Any]) -> None:
    raw = without_digest(to_json(RECORD)) | change
    assert parse_record(json.dumps(raw).encode(), "x") is None
    manifest = without_digest(to_json(MANIFEST)) | {"records": [raw]}
    assert parse_manifest(json.dumps(manifest).encode(), "x") is None


def test_a_field_that_is_missing_makes_it_none() -> None:
    record, manifest = without_digest(to_json(RECORD)), without_digest(to_json(MANIFEST))
    for name in record:
        less = {key: value for key, value in record.items() if key != name}
        expected = (
            replace(RECORD, environment={}) if name == "environment" else None
        )  # the first runs lack it
        assert parse_record(json.dumps(less).encode(), "x") == expected
        outer = json.dumps(manifest | {"records": [less]}).encode()
        assert (parse_manifest(outer, "x") is None) == (name not in ("environment", "schema_version"))
    for one in (None, 3, "x", []):
        assert parse_manifest(json.dumps(manifest | {"records": [one]}).encode(), "x") is None
    for name in manifest:
        less = {key: value for key, value in manifest.items() if key != name}
        assert parse_manifest(json.dumps(less).encode(), "x") is None


def test_a_record_or_manifest_of_which_a_value_was_changed_is_none() -> None:
    for value, parse in ((RECORD, parse_record), (MANIFEST, parse_manifest)):
        whole = json.loads(to_json(value))
        assert parse(json.dumps(whole, indent=1).encode(), "x") == value
        assert parse(json.dumps(without_digest(to_json(value))).encode(), "x") == value
        for changed in (whole | {"fingerprint": "other"}, whole | {"more": 1}, whole | {"sha256": None}):
            expected = value if changed["sha256"] is None else None
            assert parse(json.dumps(changed).encode(), "x") == expected


def parsed(meta: dict[str, Any], unit: dict[str, Any], dataset: dict[str, Any]):
    """The manifest of one unit with these facts, or None."""
    record = replace(RECORD, meta=unit)
    return parse_manifest(to_json(replace(MANIFEST, records=(record,), meta=meta, dataset=dataset)), "x")


@pytest.mark.parametrize(
    "meta",
    [
        {"epochs": [0, 10**18]},
        {"epochs": [3, 2]},
        {"epochs": [0.0, 1]},
        {"epochs": [True, 1]},
        {"epochs": [0]},
        {"epochs": "01"},
        {"epochs": None},
        {"image_sha256": [[0, 0]]},
        {"image_sha256": [[0, -1, "a"]]},
        {"image_sha256": [[0, 0, "a"], [0, 0, "b"]]},
        {"image_sha256": None},
    ],
)
def test_a_unit_with_facts_that_cannot_be_is_no_record(meta: dict[str, Any]) -> None:
    sound = {"epochs": [2, 2], "image_sha256": [[0, 0, "a"], [0, 1, "a"]], "else": [None]}
    record = replace(RECORD, meta=sound)
    assert parse_record(to_json(record), "x") == record
    assert parse_record(to_json(replace(RECORD, meta=sound | meta)), "x") is None
    assert parsed({}, meta, {}) is None


@pytest.mark.parametrize(
    ("meta", "dataset"),
    [
        ({"mean": ["a"]}, {}),
        ({"mean": 0.5}, {}),
        ({"mean": [True]}, {}),
        ({"std": [0.0]}, {}),
        ({}, {"class_names": [1]}),
        ({}, {"class_names": "cat"}),
    ],
)
def test_a_stage_with_facts_that_cannot_be_has_no_manifest(
    meta: dict[str, Any], dataset: dict[str, Any]
) -> None:
    assert parsed({"mean": [0.5, 1], "std": None}, {}, {"class_names": ["cat"]}) is not None
    assert parsed(meta, {}, dataset) is None


@pytest.mark.parametrize(("first", "is_sound"), [([2, 3], True), ([1, 3], False)])
def test_units_of_labels_share_no_epoch(first: list[int], is_sound: bool) -> None:
    records = tuple(
        replace(RECORD, unit=f"u{number}", shards=(), meta={"epochs": epochs})
        for number, epochs in enumerate([first, [0, 1]])
    )
    manifest = replace(MANIFEST, stage="relabel", records=records)
    assert (parse_manifest(to_json(manifest), "x") is not None) == is_sound


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, to_json(RECORD)[:-1]]
)
def test_bytes_that_are_no_record_are_none(data: bytes) -> None:
    assert parse_record(data, "x") is None
    assert parse_manifest(data, "x") is None


def test_a_newer_version_asks_for_an_upgrade() -> None:
    raw = json.dumps({"schema_version": 2, "all": "different"}).encode()
    for parse in (parse_record, parse_manifest):
        with pytest.raises(ArtifactError, match=r"run/x\.json was written by a newer edc-ray") as caught:
            parse(raw, "run/x.json")
        assert "upgrade" in str(caught.value)


def test_nan_in_meta_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(Record("recover", "u", "f", (), {"loss": float("nan")}))
