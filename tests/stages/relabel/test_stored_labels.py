"""Labels of another run: taken where both runs have the same images, else refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from edc_ray.artifacts.storage.store import open_store
from edc_ray.data.condensed.images import CondensedViews
from edc_ray.errors import ArtifactError
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.export.run import export_run
from edc_ray.sharing.import_official import import_images
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.relabel import stored_labels
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import image_hashes, new_root, tiny_context

Copied = Callable[..., StageContext]
MADE = ("init", "recover", "relabel", "evaluate")


@pytest.fixture(scope="module")
def imported(finished: StageContext) -> str:
    """The finished run, exported to the official layouts and imported again."""
    dest, again = new_root(), new_root()
    export_run(finished.store.url, dest, ExportOptions(parts=["images", "labels"]))
    import_images(finished.config, f"{dest}/images", again, labels=f"{dest}/labels")
    return again


def test_a_student_learns_from_imported_images_and_labels_as_from_those_of_the_run(
    copied: Copied, finished: StageContext, imported: str
) -> None:
    context = copied(
        *MADE, init__source=imported, recover__enabled=False, relabel__source=imported,
        evaluate__rows=["condensed"], evaluate__seeds=1,
    )  # fmt: skip
    run_pipeline(context)
    assert image_hashes(context) == image_hashes(context, "init") == image_hashes(finished)
    ours, theirs = CondensedViews(context.store.url), CondensedViews(finished.store.url)
    for epoch in range(3):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        for mine, other in zip(ours.batch(range(6)), theirs.batch(range(6)), strict=True):
            assert torch.equal(mine, other)
    name = "condensed_convnet_d1_seed-000"
    results = [
        next(record for record in one.manifest("evaluate").records if record.unit == name).meta["result"]
        for one in (context, finished)
    ]
    assert results[0] == results[1]
    assert run_pipeline(context)[3].units_reused == 3


def test_a_run_without_stored_labels_says_how_to_get_them(copied: Copied) -> None:
    online = copied("relabel", "evaluate", relabel__labels="online")
    run_pipeline(online, ["relabel"])
    with pytest.raises(ArtifactError, match=r"labelled online(.|\n)*set relabel\.labels=stored") as caught:
        tiny_context(relabel__source=online.store.url)
    assert "relabel.epochs" not in str(caught.value)


def test_labels_of_images_made_just_so_are_taken(finished: StageContext, copied: Copied) -> None:
    context = copied("relabel", "evaluate", relabel__source=finished.store.url)
    run_pipeline(context, ["relabel"])
    ours, theirs = (CondensedViews(one.store.url) for one in (context, finished))
    assert all(map(torch.equal, ours.batch(range(6)), theirs.batch(range(6))))


def test_labels_of_other_images_are_refused_in_the_stage_too(
    copied: Copied, finished: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = copied("relabel", "evaluate", relabel__source=finished.store.url)
    monkeypatch.setattr(
        stored_labels, "slot_hashes", lambda *_: dict.fromkeys(image_hashes(finished), "another image")
    )
    with pytest.raises(ArtifactError, match="are of another image set") as caught:
        run_pipeline(context, ["relabel"])
    assert "6 images differ; the first is class 0, ipc id 0" in str(caught.value)


@pytest.fixture(scope="module")
def others(finished: StageContext) -> str:
    """Imported images that are the run's with two of them exchanged, without facts of how they were made."""
    dest, again = new_root(), new_root()
    export_run(finished.store.url, dest, ExportOptions(parts=["images"]))
    store = open_store(f"{dest}/images")
    first, second = sorted(store.list())[:2]
    contents = store.read(first), store.read(second)
    store.publish(first, contents[1], replace=True)
    store.publish(second, contents[0], replace=True)
    import_images(finished.config, f"{dest}/images", again)
    return again


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"recover__iterations": 4}, "images made with another recover.iterations"),
        ({"init__source": "finished"}, "images made with another init.source"),
        ({"seed": 1}, "images made with another seed"),
        ({"ipc": 1}, "6 images"),
        ({"relabel__source": "imported"}, "images without a run.yaml that says how they were made"),
        ({"dataset__max_per_class": 8}, "images made from other training images"),
        (
            {"init__source": "others", "recover__enabled": False},
            "2 images differ; the first is class 0, ipc id 0",
        ),
    ],
)
def test_labels_of_images_that_the_run_will_not_have_are_refused_before_work_starts(
    finished: StageContext, imported: str, others: str, fields: dict[str, Any], found: str
) -> None:
    urls = {"finished": finished.store.url, "imported": imported, "others": others}
    given = {"relabel__source": "finished"} | fields
    with pytest.raises(ArtifactError, match="are of another image set") as caught:
        tiny_context(**{name: urls.get(str(value), value) for name, value in given.items()})
    assert caught.value.found == found


def test_mixing_groups_of_stored_labels_decide_the_steps_that_follow_them(finished: StageContext) -> None:
    """The run's groups are of four images; this config says three."""
    fields: dict[str, Any] = {"relabel__source": finished.store.url, "evaluate__order": "groups"}
    with pytest.raises(ArtifactError, match="takes whole mixing groups") as caught:
        tiny_context(**fields, relabel__mix_group=3, evaluate__batch_size=3)
    assert caught.value.found == "groups of 4 images, steps of 3"
    tiny_context(**fields, relabel__mix_group=2, evaluate__batch_size=2, evaluate__accumulation=2)


def test_a_single_mixing_group_need_only_fit_into_a_step(copied: Copied) -> None:
    whole = copied("relabel", "evaluate", relabel__mix_group=100)
    run_pipeline(whole, ["relabel"])
    fields: dict[str, Any] = {"relabel__source": whole.store.url, "evaluate__order": "groups"}
    with pytest.raises(ArtifactError, match="takes whole mixing groups") as caught:
        tiny_context(**fields, relabel__mix_group=5, evaluate__batch_size=5)
    assert caught.value.found == "groups of 6 images, steps of 5"
    tiny_context(**fields, relabel__mix_group=100, evaluate__batch_size=100)
