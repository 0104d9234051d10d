"""Growing by ipc where the method's values follow ipc; other sizes, and other classes."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edc_ray.config.load import load_recipe, with_fields
from edc_ray.config.method_values import field_value
from edc_ray.config.run import STAGE_NAMES
from edc_ray.data.condensed import CondensedViews
from edc_ray.data.fake import synthetic_images, write_parquet
from edc_ray.errors import ConfigError
from edc_ray.stages.context import StageContext
from edc_ray.stages.growth import advice, follows_ipc, with_blocks_of
from tests.stages.tiny_runs import (
    OBSERVERS,
    image_hashes,
    manifest_of,
    new_root,
    run_until,
    tiny_context,
)

Copied = Callable[..., StageContext]

# On this dataset EDC's work units are blocks of 100 images: 100 classes of one image, 50 of two.
FOLLOWING: dict[str, Any] = {"dataset__name": "cifar100", "recover__layers": ["bn", "conv"]}
ONE = {"recover__classes_per_unit": 100, "recover__ipc_per_unit": 1}
THREE = {"recover__classes_per_unit": 33, "recover__ipc_per_unit": 3}
SIZES = tuple(name.replace("__", ".") for name in ONE)


def test_a_run_that_grows_keeps_the_blocks_it_began_with_and_its_images() -> None:
    root = new_root()
    few = tiny_context(root, ipc=1, **FOLLOWING, **ONE)
    run_until(few, "recover")
    before = image_hashes(few)
    more = tiny_context(root, ipc=3, **FOLLOWING, **THREE)
    assert [field_value(more.config, name) for name in SIZES] == [100, 1]
    reports = {report.stage: report for report in run_until(more, "recover")}
    assert (reports["recover"].units_done, reports["recover"].units_reused) == (2, 1)
    assert {slot: sha for slot, sha in image_hashes(more).items() if slot in before} == before
    # The same command again finds a folder of the same ipc, with the blocks of the smaller one.
    again = tiny_context(root, ipc=3, **FOLLOWING, **THREE)
    assert again.config == more.config


def test_sizes_that_a_user_gives_are_a_difference_like_any_other() -> None:
    root = new_root()
    run_until(tiny_context(root, ipc=1, **FOLLOWING, **ONE), "recover")
    chosen = {"recover__classes_per_unit": 2, "recover__ipc_per_unit": 3}
    with pytest.raises(ConfigError, match=r"recover\.classes_per_unit=100"):
        tiny_context(root, ipc=3, **FOLLOWING, **chosen)


def test_a_folder_without_images_takes_the_sizes_of_the_new_ipc() -> None:
    root = new_root()
    run_until(tiny_context(root, ipc=1, **FOLLOWING, **ONE), "init")
    more = tiny_context(root, ipc=3, **FOLLOWING, **THREE)
    assert [field_value(more.config, name) for name in SIZES] == [33, 3]


@pytest.mark.parametrize("recipe", ["cifar100", "tiny_imagenet", "imagenet1k"])
def test_every_recipe_that_began_with_one_image_grows_to_ten(recipe: str) -> None:
    one, ten = load_recipe(recipe, ["ipc=1"]), load_recipe(recipe, ["ipc=10"])
    grown = with_blocks_of(one, ten)
    assert grown != ten
    assert grown.stage_inputs("recover") == one.stage_inputs("recover")


def test_values_of_labels_and_students_may_follow_ipc_and_those_of_images_may_not() -> None:
    one, ten = load_recipe("tiny_imagenet", ["ipc=1"]), load_recipe("tiny_imagenet", ["ipc=10"])
    assert one.relabel.epochs != ten.relabel.epochs
    assert follows_ipc(one, ten, "relabel.epochs")
    assert not follows_ipc(ten, one, "relabel.epochs")
    assert not follows_ipc(one, with_fields(ten, {"relabel.epochs": 7}), "relabel.epochs")
    assert not follows_ipc(one, ten, "recover.classes_per_unit")


def root_of(context: StageContext) -> str:
    return context.store.url.rsplit("/", 1)[0]


def refused(context: StageContext, **fields: Any) -> str:
    """What the folder of a run says to a config that it does not take; it stays as it is."""
    before = context.store.list()
    with pytest.raises(ConfigError) as caught:
        tiny_context(root_of(context), **fields)
    assert context.store.list() == before
    return str(caught.value)


def test_fewer_images_are_a_view_and_the_way_that_is_told_works(finished: StageContext) -> None:
    url = finished.store.url
    said = refused(finished, ipc=1)
    assert f"edc-ray export {url} DEST --ipc 1" in said
    assert f"init.source={url} recover.enabled=false ipc=1" in said
    fewer = tiny_context(ipc=1, init__source=url, recover__enabled=False, run__name="fewer")
    run_until(fewer, "relabel")
    old = image_hashes(finished)
    assert image_hashes(fewer) == {slot: sha for slot, sha in old.items() if slot[1] == 0}


def test_fewer_epochs_are_a_view_and_the_way_that_is_told_works(finished: StageContext) -> None:
    url = finished.store.url
    said = refused(finished, relabel__epochs=2)
    words = f"init.source={url} recover.enabled=false relabel.source={url} relabel.epochs=2 ipc=2"
    assert words in said
    fewer = tiny_context(
        relabel__epochs=2, init__source=url, relabel__source=url, recover__enabled=False, run__name="fewer"
    )
    run_until(fewer, "relabel")
    ours, theirs = CondensedViews(url, epoch=1), CondensedViews(fewer.store.url, epoch=1)
    np.testing.assert_array_equal(ours.rows.logits, theirs.rows.logits)
    assert theirs.num_epochs == 2


def test_what_is_there_is_not_dropped_before_anything_builds_on_it(copied: Copied) -> None:
    assert "relabel.epochs=3" in refused(copied("evaluate"), relabel__epochs=2)
    assert "ipc=2" in refused(copied("relabel", "evaluate"), ipc=1)


def more_classes(count: int) -> dict[str, Any]:
    folder = f"memory://{uuid.uuid4().hex}"
    for seed, (name, size) in enumerate({"train": 12, "val": 8}.items()):
        write_parquet(synthetic_images(count, size, 8, 1, seed=seed), f"{folder}/{name}.parquet")
    return {"dataset__train": f"{folder}/train.parquet", "dataset__val": f"{folder}/val.parquet"}


def test_more_classes_make_all_anew_and_the_way_that_is_told_works(finished: StageContext) -> None:
    more, url = more_classes(4), finished.store.url
    said = refused(finished, **more)
    assert "classes: 1 added (class3). Kept: nothing; made anew: every observer" in said
    assert f"{{url: {url}/squeeze/convnet_d1.safetensors, sha256: ...}}" in said
    assert f"{url}/squeeze/manifest.json" in said
    (first, second) = manifest_of(finished, "squeeze").shards
    weights = {
        name: {"url": f"{url}/squeeze/{shard.path}", "sha256": shard.sha256}
        for name, shard in zip(OBSERVERS, (first, second), strict=True)
    }
    larger = tiny_context(run__name="larger", squeeze__weights=weights, **more)
    run_until(larger, "squeeze")
    assert len(manifest_of(larger, "squeeze").shards) == 2


def test_no_fingerprint_of_any_stage_outlives_more_classes(finished: StageContext) -> None:
    """Why a folder cannot take them: nothing in it would be found again."""
    larger = tiny_context(run__name="larger", **more_classes(4)).config
    for stage in STAGE_NAMES:
        assert larger.fingerprint(stage) != finished.config.fingerprint(stage)


def test_advice_names_pretrained_observers_and_what_became_of_classes(finished: StageContext) -> None:
    config = finished.config
    fixed = with_fields(config, {"squeeze.weights": {"wrn_16_2": {"url": "/w", "sha256": "ab" * 32}}})
    gone = with_fields(config, {"dataset.class_names": ["class2", "new", "class1"]})
    said = advice(fixed, gone, "URL")
    assert said is not None
    assert "1 added (new) and 1 gone (class0)" in said
    assert "the weight files of wrn_16_2 serve again" in said
    turned = with_fields(config, {"dataset.class_names": ["class2", "class0", "class1"]})
    assert "the same in another order" in (advice(config, turned, "URL") or "")
    assert advice(config, with_fields(config, {"ipc": 3, "recover.iterations": 9}), "URL") is None
