"""Growing by ipc where the method's values follow ipc; other sizes, and other classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import pytest

from edc_ray.config.load import load_recipe, with_fields
from edc_ray.config.run import RunConfig
from edc_ray.data.condensed.images import CondensedImages, CondensedViews
from edc_ray.errors import ConfigError
from edc_ray.runs.growth import added_names, advice, follows_classes, follows_ipc, with_blocks_of
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.fingerprint import stage_inputs
from tests.stages.more_classes import NAMES, REAL, root_of, run_of
from tests.stages.tiny_runs import (
    image_hashes,
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
    assert [attrgetter(name)(more.config) for name in SIZES] == [100, 1]
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
    assert [attrgetter(name)(more.config) for name in SIZES] == [33, 3]


@pytest.mark.parametrize("recipe", ["cifar100", "tiny_imagenet", "imagenet1k"])
def test_every_recipe_that_began_with_one_image_grows_to_ten(recipe: str) -> None:
    one, ten = load_recipe(recipe, ["ipc=1"]), load_recipe(recipe, ["ipc=10"])
    grown = with_blocks_of(one, ten)
    assert grown != ten
    assert stage_inputs(grown, STAGES["recover"]) == stage_inputs(one, STAGES["recover"])


def test_values_of_labels_and_students_may_follow_ipc_and_those_of_images_may_not() -> None:
    one, ten = load_recipe("tiny_imagenet", ["ipc=1"]), load_recipe("tiny_imagenet", ["ipc=10"])
    assert one.relabel.epochs != ten.relabel.epochs
    assert follows_ipc(one, ten, "relabel.epochs")
    assert not follows_ipc(ten, one, "relabel.epochs")
    assert not follows_ipc(one, with_fields(ten, {"relabel.epochs": 7}), "relabel.epochs")
    assert not follows_ipc(one, ten, "recover.classes_per_unit")


def refused(context: StageContext, opened: Copied | None = None, **fields: Any) -> str:
    """The error of a run's folder for a config that it refuses; the folder stays as it is."""
    before = {path: context.store.read(path) for path in context.store.list()}
    opened = opened or partial(tiny_context, root_of(context))
    with pytest.raises(ConfigError) as caught:
        opened(**fields)
    assert {path: context.store.read(path) for path in context.store.list()} == before
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


def test_classes_behind_those_that_are_there_may_be_added_with_all_that_follows_them() -> None:
    few = run_of(3).config
    more = run_of(5).config
    assert added_names(few, more) == ("class3", "class4")
    assert few.dataset.mean != more.dataset.mean
    assert follows_classes(few, more, "dataset.mean")
    assert not follows_classes(few, more, "squeeze.epochs")
    assert added_names(more, few) == added_names(few, few) == ()
    assert added_names(with_fields(few, {"dataset.class_names": None}), more) == ()
    assert not follows_classes(few, few, "dataset.mean")


def test_another_field_is_refused_with_more_classes_as_without() -> None:
    few = run_of(3, **REAL)
    run_until(few, "recover")
    said = refused(few, partial(run_of, 5, root_of(few)), **REAL, seed=9)
    assert "seed=9" in said
    assert "class_names" not in said


def test_classes_in_between_are_told_where_to_stand_and_the_way_that_is_told_works() -> None:
    few = run_of([NAMES[0], NAMES[4]], **REAL)
    run_until(few, "recover")
    said = refused(few, partial(run_of, 3, root_of(few)), **REAL)
    assert "1 gone (class4)" in said
    said = refused(few, partial(run_of, [*NAMES[:2], NAMES[4]], root_of(few)), **REAL)
    assert "list them last: dataset.class_names=[class0,class4,class1]" in said
    more = run_of([NAMES[0], NAMES[4], NAMES[1]], root_of(few), **REAL)
    assert run_until(more, "recover")[-1].units_reused == 1


def test_classes_go_from_a_growth_that_was_broken_off_when_it_is_finished() -> None:
    few = run_of(3, **REAL)
    run_until(few, "recover")
    grown = run_of(5, root_of(few), **REAL)
    run_until(grown, "init")
    said = refused(few, partial(run_of, 3, root_of(few)), **REAL)
    assert f"finish them with the class names that {few.store.url}/run.yaml lists" in said
    run_until(grown, "recover")
    assert "CondensedImages" in refused(few, partial(run_of, 3, root_of(few)), **REAL)


def test_a_long_list_of_classes_is_named_by_its_file() -> None:
    names = tuple(f"n{number:03d}" for number in range(120))
    config = run_of(3).config
    old = with_fields(config, {"dataset.class_names": names[1:], "dataset.num_classes": None})
    new = with_fields(config, {"dataset.class_names": names, "dataset.num_classes": None})
    assert "dataset.class_names=those of URL/run.yaml, then the new" in (advice(old, new, "URL") or "")


def test_fewer_classes_are_a_view_and_the_way_that_is_told_works() -> None:
    whole = run_of(5)
    run_until(whole, "recover")
    url, some = whole.store.url, ["class3", "class1"]
    said = refused(whole, partial(run_of, some, root_of(whole)))
    assert f"CondensedImages('{url}', classes=[...])" in said
    assert f"init.source={url} recover.enabled=false ipc=2" in said
    fewer = run_of(some, init__source=url, recover__enabled=False, run__name="fewer", ipc=2)
    run_until(fewer, "relabel")
    view = CondensedImages(url, classes=some)
    assert (view.digest, CondensedImages(url).digest is None) == (None, False)
    assert view.class_names == ("class3", "class1") == CondensedViews(fewer.store.url).class_names
    np.testing.assert_array_equal(view.images, CondensedImages(fewer.store.url).images)


def test_advice_names_pretrained_observers_and_what_became_of_classes(finished: StageContext) -> None:
    config = finished.config
    fixed = with_fields(config, {"squeeze.weights": {"wrn_16_2": {"url": "/w", "sha256": "ab" * 32}}})
    gone = with_fields(config, {"dataset.class_names": ["class2", "new", "class1"]})
    said = advice(fixed, gone, "URL")
    assert said is not None
    assert "1 added (new) and 1 gone (class0). Nothing could be kept: observers" in said
    assert "{url: URL/squeeze/convnet_d1.safetensors, sha256: ...}" in said
    assert "the weight files of wrn_16_2 can be used again" in said
    turned = with_fields(config, {"dataset.class_names": ["class2", "class0", "class1"]})
    assert "the same in another order" in (advice(config, turned, "URL") or "")
    assert advice(config, with_fields(config, {"ipc": 3, "recover.iterations": 9}), "URL") is None


def test_outputs_of_earlier_classes_have_to_stay(finished: StageContext) -> None:
    source = {"wrn_16_2": {"url": "/w", "sha256": "ab" * 32}}
    names = ["class0", "class1", "class2", "class3"]

    def config(count: int, outputs: list[int] | None) -> RunConfig:
        fields = {"dataset.class_names": names[:count], "dataset.num_classes": count}
        return with_fields(
            finished.config, fields | {"squeeze.weights": source, "squeeze.head_classes": outputs}
        )

    few = config(3, [5, 0, 2])
    assert added_names(few, config(4, [5, 0, 2, 9])) == ("class3",)
    for outputs in ([5, 2, 0, 9], None):
        assert added_names(few, config(4, outputs)) == ()
        said = advice(few, config(4, outputs), "URL")
        assert said is not None
        assert "let squeeze.head_classes begin with [5, 0, 2]" in said
    assert added_names(config(3, None), config(4, [5, 0, 2, 9])) == ()
