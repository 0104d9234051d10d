"""compress: a copy with other labels, proven by manifests, whatever interrupts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edc_ray.artifacts.proof.manifest import read_manifest, verify_run
from edc_ray.artifacts.proof.records import Manifest
from edc_ray.artifacts.storage.layout import RUN_CONFIG, manifest_path, stage_folder
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.data.condensed.images import CondensedImages, CondensedViews
from edc_ray.data.condensed.label_rows import rounded_by
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.sharing import compress as compress_labels
from edc_ray.sharing.compress import compress_run
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import context_of, image_hashes, new_root, run_until, tiny_config, tiny_context

LABELS = stage_folder("relabel")


def contents(store: Store) -> dict[str, bytes]:
    return {path: store.read(path) for path in store.list()}


def manifest(store: Store) -> Manifest:
    found = read_manifest(store, LABELS)
    assert found is not None
    return found


def logits_of(url: str) -> np.ndarray:
    views = CondensedViews(url)
    parts = []
    for epoch in range(views.num_epochs):
        views.set_epoch(epoch)
        parts.append(views.rows.logits)
    return np.stack(parts)


@pytest.mark.parametrize("codec", ["fp16", "q6", "top2_q5", "pca8"])
def test_a_copy_reads_like_the_run_with_labels_as_the_codec_rounds_them(
    finished: StageContext, codec: str
) -> None:
    before = contents(finished.store)
    told = compress_run(finished.store.url, dest := new_root(), codec=codec)
    copy, source = open_store(dest), finished.store
    assert contents(source) == before
    assert verify_run(copy) == []
    np.testing.assert_array_equal(CondensedImages(dest).images, CondensedImages(source.url).images)
    exact = logits_of(source.url)
    rounded = rounded_by(codec, exact.reshape(-1, exact.shape[-1])).reshape(exact.shape)
    np.testing.assert_array_equal(logits_of(dest), rounded)
    facts = manifest(copy).meta
    assert (facts["codec"], facts["epochs"]) == (codec, 3)
    assert facts["source"]["url"] == source.url
    assert facts["source"]["fingerprint"] == manifest(source).fingerprint
    assert f"labels of 3 of 3 epochs as {codec}" in told
    views, ours = CondensedViews(source.url, epoch=2), CondensedViews(dest, epoch=2)
    for one, other in zip(views.batch(range(6)), ours.batch(range(6)), strict=True):
        if one.shape[-1] != exact.shape[-1]:
            np.testing.assert_array_equal(one, other)


def test_the_first_epochs_are_kept(finished: StageContext) -> None:
    compress_run(finished.store.url, dest := new_root(), codec="fp16", keep_epochs=2)
    np.testing.assert_array_equal(logits_of(dest), logits_of(finished.store.url)[:2])
    assert CondensedViews(dest).num_epochs == 2
    with pytest.raises(ConfigError, match="labels of fewer epochs"):
        compress_run(finished.store.url, new_root(), codec="fp16", keep_epochs=4)


def test_units_of_many_labels_are_not_joined(finished: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    compress_run(finished.store.url, joined := new_root(), codec="q6")
    monkeypatch.setattr(compress_labels, "UNIT_ROWS", 6)
    compress_run(finished.store.url, apart := new_root(), codec="q6")
    assert [len(manifest(open_store(url)).records) for url in (joined, apart)] == [1, 2]
    np.testing.assert_array_equal(logits_of(joined), logits_of(apart))


def test_a_relabelled_run_and_a_compressed_one_hold_the_same_labels(
    finished: StageContext, copied: Callable[..., StageContext]
) -> None:
    """Units are those of the run, as compress would make of as many labels."""
    context = copied("relabel", "evaluate", relabel__codec="top2_q5", relabel__epochs_per_unit=3)
    run_until(context, "evaluate")
    compress_run(finished.store.url, dest := new_root(), codec="top2_q5")
    np.testing.assert_array_equal(logits_of(context.store.url), logits_of(dest))


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("survived", range(12))
def test_a_call_that_was_killed_at_any_write_leaves_nothing_whole_and_is_finished_by_the_next(
    finished: StageContext, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    monkeypatch.setattr(compress_labels, "UNIT_ROWS", 6)
    compress_run(finished.store.url, whole := new_root(), codec="q6")
    publish, written = Store.publish, []

    def killed(self: Store, path: str, data: bytes, **more: Any) -> bool:
        if ".edc-ray-probe" not in path and len(written) == survived:
            raise KilledError
        if ".edc-ray-probe" not in path:
            written.append(path)
        return publish(self, path, data, **more)

    dest = new_root()
    with monkeypatch.context() as patched:
        patched.setattr(Store, "publish", killed)
        with pytest.raises(KilledError):
            compress_run(finished.store.url, dest, codec="q6")
    copy = open_store(dest)
    assert not copy.exists(manifest_path(LABELS))
    with pytest.raises(ArtifactError, match="is not complete"):
        CondensedViews(dest)
    compress_run(finished.store.url, dest, codec="q6")
    assert contents(copy).keys() == contents(open_store(whole)).keys()
    shards = [path for path in contents(copy) if path.endswith(".parquet")]
    assert all(copy.read(path) == open_store(whole).read(path) for path in shards)
    assert verify_run(copy) == []


def test_the_same_command_again_changes_nothing_and_another_is_refused(finished: StageContext) -> None:
    compress_run(finished.store.url, dest := new_root(), codec="q6")
    before = contents(open_store(dest))
    compress_run(finished.store.url, dest, codec="q6")
    assert contents(open_store(dest)) == before
    with pytest.raises(ConfigError, match="is not empty") as caught:
        compress_run(finished.store.url, dest, codec="q4")
    assert "of other labels" in str(caught.value)
    assert contents(open_store(dest)) == before


def test_a_damaged_shard_of_the_copy_is_written_again(finished: StageContext) -> None:
    compress_run(finished.store.url, dest := new_root(), codec="q6")
    copy = open_store(dest)
    (shard,) = manifest(copy).shards
    copy.publish(f"{LABELS}/{shard.path}", b"rot", replace=True)
    compress_run(finished.store.url, dest, codec="q6")
    assert verify_run(copy) == []


def test_the_source_is_not_written_to(finished: StageContext) -> None:
    before = contents(finished.store)
    for dest in (finished.store.url, f"{finished.store.url}/", finished.store.join("small")):
        with pytest.raises(ConfigError, match="outside the folder that it reads"):
            compress_run(finished.store.url, dest, codec="q6")
    assert contents(finished.store) == before


def test_without_a_destination_the_name_says_what_is_kept(finished: StageContext) -> None:
    told = compress_run(finished.store.url, None, codec="q6", keep_epochs=2)
    assert told.startswith(f"{finished.store.url}-q6-e2: labels of 2 of 3 epochs as q6")
    assert open_store(f"{finished.store.url}-q6-e2").exists(manifest_path(LABELS))


def test_a_codec_that_does_not_exist_is_refused_before_anything_is_written(finished: StageContext) -> None:
    with pytest.raises(ConfigError, match="not a label codec"):
        compress_run(finished.store.url, dest := new_root(), codec="gzip")
    assert not open_store(dest).list()


def test_a_compressed_set_can_be_compressed_again(finished: StageContext) -> None:
    compress_run(finished.store.url, first := new_root(), codec="q8")
    compress_run(first, second := new_root(), codec="q4")
    assert manifest(open_store(second)).meta["source"]["codec"] == "q8"
    np.testing.assert_array_equal(
        logits_of(second), rounded_by("q4", logits_of(first).reshape(-1, 3)).reshape(3, 6, 3)
    )


def test_another_run_takes_its_images_and_labels(finished: StageContext) -> None:
    """As its students see them: decoded once, stored exactly."""
    compress_run(finished.store.url, dest := new_root(), codec="q4")
    config = tiny_config(init__source=dest, recover__enabled=False, relabel__source=dest, evaluate__seeds=1)
    run_until(context := context_of(config), "evaluate")
    assert image_hashes(context) == image_hashes(finished)
    np.testing.assert_array_equal(logits_of(context.store.url), logits_of(dest))


def test_a_run_says_that_its_codec_does_not_exist_before_it_starts() -> None:
    config = tiny_config(relabel__codec="top16q6")
    with pytest.raises(ConfigError, match="Did you mean 'top16_q6'"):
        tiny_context(relabel__codec="top16q6")
    assert not open_store(f"{config.storage.root}/{config.run.name}").exists(RUN_CONFIG)
