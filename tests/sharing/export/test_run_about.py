"""edc_ray.json says how a set was made, and no place and no secret."""

from __future__ import annotations

import json

from edc_ray.config.load import to_yaml, with_fields
from edc_ray.sharing.export.images import images_to_export
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.export.run import about_export, export_fingerprint
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import OBSERVERS, copy_root, manifest_of


def test_the_facts_are_those_of_the_run(finished: StageContext) -> None:
    options = ExportOptions("imagefolder", license="other")
    about = about_export(images_to_export(finished.store.url, None), None, options)
    assert (about["method"], about["seed"], about["license"]) == ("edc", 0, "other")
    assert about["dataset"]["class_names"] == list(finished.config.dataset.class_names or ())
    assert (about["images"]["number"], about["images"]["ipc"], about["images"]["size"]) == (6, 2, 8)
    assert about["config"]["recover"]["iterations"] == 3
    assert about["data"]["train"]["sha256"] == finished.data.train.content_hash
    weights = {
        record.meta["observer"]: record.shards[0].sha256
        for record in manifest_of(finished, "squeeze").records
    }
    assert {name: facts["sha256"] for name, facts in about["observers"].items()} == weights
    assert set(weights) == set(OBSERVERS)
    assert about["made_by"]["recover"]["commit"]
    assert {row["row"] for row in about["results"]["students"]} >= {"condensed", "random_hard", "full"}
    assert json.loads(json.dumps(about)) == about


def test_no_place_and_no_option_of_storage_is_told(finished: StageContext) -> None:
    root = copy_root(finished.store)
    place = "/home/somebody/secret-place"
    weights = {"convnet_d1": {"url": f"{place}/w.safetensors", "sha256": "ab" * 32}}
    config = with_fields(
        finished.config,
        {
            "dataset.train": f"{place}/train", "dataset.val": f"{place}/val", "dataset.cache": place,
            "storage.root": place, "storage.options": {"endpoint_url": "http://secret-place"},
            "squeeze.weights": weights, "init.source": f"{place}/init", "relabel.source": f"{place}/labels",
            "statistics.source": f"{place}/tree",
        },
    )  # fmt: skip
    url = f"{root}/{finished.config.run.name}"
    store = images_to_export(url, None).store
    store.publish("run.yaml", to_yaml(config).encode(), replace=True)
    about = about_export(images_to_export(url, None), None, ExportOptions("imagefolder"))
    assert about["config"]["squeeze"]["weights"] == {"convnet_d1": {"sha256": "ab" * 32}}
    assert about["config"]["init"]["source"] is True
    for word in ("secret-place", root):
        assert word not in json.dumps(about)


def test_the_fingerprint_is_of_what_is_written(finished: StageContext) -> None:
    def of(**options: object) -> str:
        given = ExportOptions("huggingface", **options)  # type: ignore[arg-type]
        source = images_to_export(finished.store.url, given.ipc)
        labels = {"epochs": given.epochs or 3, "codec": "fp16"}
        return export_fingerprint(about_export(source, labels, given), source, given)

    changed = [{"ipc": 1}, {"epochs": 2}, {"license": "other"}, {"shard_bytes": 9}, {"image_format": "png"}]
    assert of() == of()
    assert len({of(), *(of(**one) for one in changed)}) == 6
