"""Every method from real digits to accuracies, and the traces of what is special in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from edc_ray.config.load import load_recipe, with_fields
from edc_ray.config.methods.registry import METHODS
from edc_ray.config.run import STAGE_NAMES
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import context_of, copy_root, image_hashes, manifest_of, new_root

SMALL: dict[str, Any] = {
    "ipc": 2,
    "cluster.address": "none",
    "device": "cpu",
    "dataset.image_size": 8,
    "dataset.max_per_class": 8,
    "dataset.max_val_per_class": 5,
    "dataset.allow_weak_observers": True,
    "squeeze.epochs": 1,
    "statistics.batches_per_unit": 100,
    "init.images_per_class": 6,
    "init.crops_per_image": 2,
    "init.classes_per_unit": 10,
    "recover.iterations": 4,
    "recover.classes_per_unit": 10,
    "relabel.epochs": 2,
    "relabel.mix_group": 10,
    "evaluate.batch_size": 10,
    "evaluate.students": ["convnet_d1"],
    "evaluate.rows": ["condensed", "init"],
    "evaluate.seeds": 1,
}
ONE_OBSERVER = ("sre2l", "cda", "rded")
Runs = Callable[[str], StageContext]


def _context(method: str, root: str) -> StageContext:
    config = with_fields(
        load_recipe("digits", ["ipc=2"]), {"method": method} | SMALL | {"storage.root": root}
    )
    if method not in ONE_OBSERVER:
        config = with_fields(config, {"squeeze.observers": ["convnet_d1", "wrn_16_2"]})
    return context_of(config)


@pytest.fixture(scope="module")
def runs() -> Runs:
    """`runs("sre2l")`: a finished run of the method. All methods share the trained observers."""
    squeezed = _context("edc", new_root())
    run_pipeline(squeezed, ["squeeze"])
    finished: dict[str, StageContext] = {}

    def run(method: str) -> StageContext:
        if method not in finished:
            finished[method] = _context(method, copy_root(squeezed.store))
            run_pipeline(finished[method], STAGE_NAMES)
        return finished[method]

    return run


def _curves(context: StageContext) -> set[str]:
    records = manifest_of(context, "recover").records if context.config.recover.enabled else ()
    return {name for record in records for name in record.meta["curves"]}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_runs_from_images_to_accuracies(runs: Runs, method: str) -> None:
    context = runs(method)
    assert context.config.method == method
    assert len(image_hashes(context)) == 20
    results = manifest_of(context, "evaluate").meta["results"]
    assert {row["row"] for row in results} == {"condensed", "init"}
    assert all(math.isfinite(row["top1"]) for row in results)
    if context.config.recover.enabled:
        curves = manifest_of(context, "recover").records[0].meta["curves"]
        assert all(math.isfinite(value) for values in curves.values() for value in values)


# Those of papers: what they are is known. A new method is only run.
PUBLISHED = ("cda", "edc", "edc_official", *(f"edc_{step}" for step in "abcdefg"), "gvbsm", "rded", "sre2l")
# These differ in students and labels only, or by less than four iterations show in 8 bits.
SAME_IMAGES = [{"edc_a", "gvbsm"}, {"edc_b", "edc_c", "edc_d", "edc_e"}, {"edc", "edc_g"}]


def test_every_published_method_makes_images_of_its_own(runs: Runs) -> None:
    made = {method: tuple(sorted(image_hashes(runs(method)).items())) for method in PUBLISHED}
    for one in PUBLISHED:
        alike = {other for other in PUBLISHED if made[other] == made[one]}
        assert alike == next((group for group in SAME_IMAGES if one in group), {one})


def test_the_flatness_term_is_on_from_step_d_of_the_ablation(runs: Runs) -> None:
    asking = {method for method in PUBLISHED if "flatness_loss" in _curves(runs(method))}
    assert asking == {"edc_d", "edc_e", "edc_f", "edc_g"}


def test_edc_official_works_in_chains_of_virtual_ranks(runs: Runs) -> None:
    units = [record.unit for record in manifest_of(runs("edc_official"), "recover").records]
    assert units == ["rank-000"]


@pytest.mark.parametrize("method", ["sre2l", "cda"])
def test_sre2l_and_cda_make_one_image_of_each_class_at_a_time_from_noise(runs: Runs, method: str) -> None:
    context = runs(method)
    assert manifest_of(context, "init").meta["kind"] == "noise"
    slots = [
        {ipc_id for _, ipc_id, _ in record.meta["image_sha256"]}
        for record in manifest_of(context, "recover").records
    ]
    assert slots == [{0}, {1}]


def test_only_gvbsm_and_the_ablations_start_ask_for_diverse_images(runs: Runs) -> None:
    asking = {method for method in PUBLISHED if "diversity" in _curves(runs(method))}
    assert asking == {"gvbsm", "edc_a"}


def test_images_of_rded_are_its_mosaics(runs: Runs) -> None:
    context = runs("rded")
    assert manifest_of(context, "init").meta["kind"] == "mosaic"
    assert manifest_of(context, "recover").meta["matching_loss"] is None
