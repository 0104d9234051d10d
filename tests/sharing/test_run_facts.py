"""The facts of how a set was made survive compressing, exporting and importing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edc_ray.artifacts.storage.store import open_store
from edc_ray.config.load import with_fields
from edc_ray.data.condensed.images import CondensedImages, open_stage
from edc_ray.sharing.card import dataset_card
from edc_ray.sharing.compress import compress_run
from edc_ray.sharing.export.options import ExportOptions, Format
from edc_ray.sharing.export.run import export_run
from edc_ray.sharing.import_official import import_images
from edc_ray.sharing.run_facts import facts_beside, facts_of
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import new_root

FACTS = ("method", "seed", "config", "data", "observers", "made_by", "results")


def facts_at(url: str) -> dict[str, Any]:
    store, _, manifest = open_stage(url, None, "recover")
    return facts_of(store, manifest)


def exported(url: str, format: Format, **options: Any) -> str:
    dest = new_root()
    export_run(url, dest, ExportOptions(format, **options), dataset_card)
    return dest


def told_by(url: str) -> dict[str, Any]:
    return json.loads(open_store(url).read("edc_ray.json"))


@pytest.mark.parametrize("format", ["huggingface", "imagefolder", "webdataset"])
def test_an_import_keeps_the_facts_and_an_export_of_it_tells_them_again(
    finished: StageContext, format: Format
) -> None:
    out, back = exported(finished.store.url, format, license="mit"), new_root()
    import_images(with_fields(finished.config, {"dataset.class_names": None}), out, back)
    kept = facts_at(back)
    ours = facts_at(finished.store.url)
    assert {name: kept[name] for name in FACTS} == ours
    assert ours["config"]["recover"]["iterations"] == 3
    assert (kept["license"], kept["exported_by"]) == ("mit", told_by(out)["exported_by"])
    again = exported(back, format, license="mit")
    first, second = told_by(out), told_by(again)
    assert {name: second[name] for name in (*FACTS, "images")} == {
        name: first[name] for name in (*FACTS, "images")
    }
    assert CondensedImages(back).digest == CondensedImages(finished.store.url).digest
    assert "- method: edc\n" in open_store(again).read("README.md").decode()


def test_a_compressed_copy_keeps_them(finished: StageContext) -> None:
    small, smaller = new_root(), new_root()
    compress_run(finished.store.url, small, codec="q8")
    compress_run(small, smaller, codec="q4", keep_epochs=1)
    assert facts_at(small) == facts_at(smaller) == facts_at(finished.store.url)
    assert told_by(exported(smaller, "huggingface"))["observers"] == facts_at(small)["observers"] != {}


def test_a_part_of_a_set_stays_known_as_a_part(finished: StageContext) -> None:
    out, back = exported(finished.store.url, "webdataset", ipc=1), new_root()
    import_images(finished.config, out, back)
    assert told_by(exported(back, "webdataset"))["images"]["whole"] is False


@pytest.mark.parametrize(
    "changed", [{"config": {"recover": 1}}, {"observers": {"a" * 2**21: {"sha256": ""}}}]
)
def test_facts_of_another_form_and_endless_ones_are_left_out(
    finished: StageContext, changed: dict[str, Any]
) -> None:
    store = open_store(exported(finished.store.url, "imagefolder"))
    assert set(facts_beside(store)) == {"origin"}
    told = json.dumps(told_by(store.url) | changed)
    store.publish("edc_ray.json", told.encode(), replace=True)
    assert facts_beside(store) == {}


@pytest.mark.parametrize("text", [b"", b"[", b"[]", b"[" * 100_000, b"\xff"])
def test_a_file_that_tells_nothing_is_passed_over(text: bytes) -> None:
    store = open_store(new_root())
    store.publish("edc_ray.json", text)
    assert facts_beside(store) == facts_beside(open_store(new_root())) == {}
