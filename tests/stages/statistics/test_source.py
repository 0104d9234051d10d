"""statistics.source: an official tree or another run instead of a pass over the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import arrays_from_bytes, arrays_to_bytes
from edc_ray.artifacts.tables.official_statistics import LayerShape
from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.models.registry import build_network
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.export.run import export_run
from edc_ray.sharing.import_official import import_statistics
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.recover.stage import load_targets
from edc_ray.stages.statistics.source import layer_shapes, refuse_shared_name
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import OBSERVERS, image_hashes, new_root, tiny_context, units_of

Copied = Callable[..., StageContext]
AFTER = ("statistics", "recover", "relabel", "evaluate")
OFFICIAL: dict[str, Any] = {"recover__variance": "official"}


@pytest.fixture(scope="module")
def tree(finished: StageContext) -> str:
    """URL of the finished run's statistics as an official tree."""
    dest = new_root()
    export_run(finished.store.url, dest, ExportOptions(parts=["statistics"]))
    return f"{dest}/statistics"


@pytest.fixture
def damaged(tree: str) -> Store:
    """A copy of the tree, to be damaged."""
    source, target = open_store(tree), open_store(new_root())
    for path in source.list():
        target.publish(path, source.read(path))
    return target


def assert_same_targets(one: dict[str, LayerTarget], other: dict[str, LayerTarget]) -> None:
    assert list(one) == list(other)
    for layer, target in one.items():
        for mine, theirs in ((target.global_, other[layer].global_), (target.classes, other[layer].classes)):
            assert mine is not None
            assert theirs is not None
            for left, right in zip(mine.quantities, theirs.quantities, strict=True):
                assert torch.equal(left, right), layer


@pytest.mark.parametrize("kind", ["tree", "imported", "run"])
def test_recover_with_taken_statistics_is_recover_with_collected_ones_bit_for_bit(
    copied: Copied, finished: StageContext, tree: str, kind: str
) -> None:
    url = {"tree": tree, "imported": new_root(), "run": finished.store.url}[kind]
    if kind == "imported":
        import_statistics(finished.config, tree, url)
    collected = copied("recover", "relabel", "evaluate", **OFFICIAL)
    taken = copied(*AFTER, **OFFICIAL, statistics__source=url)
    run_pipeline(collected, ["recover"])
    run_pipeline(taken, ["statistics", "recover"])
    assert [unit.key for unit in units_of(taken, "statistics")] == list(OBSERVERS)
    for name in OBSERVERS:
        assert_same_targets(load_targets(taken, name), load_targets(collected, name))
    assert image_hashes(taken) == image_hashes(collected)
    assert run_pipeline(taken, ["statistics"])[0].units_reused == 2


def test_a_changed_file_of_the_tree_changes_the_fingerprint_of_its_observer_alone(
    copied: Copied, damaged: Store
) -> None:
    context = copied(*AFTER, **OFFICIAL, statistics__source=damaged.url)
    before = [unit.fingerprint for unit in units_of(context, "statistics")]
    folder = "ConvFeatureHook/class_1/ConvNet_ConvNetD1=features.0"
    damaged.publish(
        f"{folder}/running.npz", damaged.read(f"{folder.replace('1', '0', 1)}/running.npz"), replace=True
    )
    after = [unit.fingerprint for unit in units_of(context, "statistics")]
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_exchanged_patches_are_matched_crosswise_for_classes_only(copied: Copied) -> None:
    straight = copied("recover", "relabel", "evaluate")
    crossed = copied(*AFTER, recover__class_patch_swapped=True)
    run_pipeline(crossed, ["statistics"])
    for layer, target in load_targets(straight, "wrn_16_2").items():
        other = load_targets(crossed, "wrn_16_2")[layer]
        assert target.classes is not None
        assert other.classes is not None
        assert torch.equal(target.classes.channel_mean, other.classes.channel_mean)
        assert torch.equal(target.global_.channel_variance, other.global_.channel_variance)
        if target.classes.patch_mean is not None:
            assert torch.equal(target.classes.patch_mean, other.classes.patch_variance)  # type: ignore[arg-type]
            assert torch.equal(target.classes.patch_variance, other.classes.patch_mean)  # type: ignore[arg-type]
            assert torch.equal(target.global_.patch_mean, other.global_.patch_mean)  # type: ignore[arg-type]


def test_a_repository_checkout_with_global_files_only_serves_local_class_targets(
    copied: Copied, damaged: Store
) -> None:
    for path in damaged.list():
        if "/class_" in path:
            damaged.delete(path)
    local: dict[str, Any] = OFFICIAL | {
        "recover__category_aware": "local",
        "recover__local_images_per_slot": 2,
    }
    context = copied(*AFTER, **local, statistics__source=damaged.url)
    run_pipeline(context, ["statistics", "recover"])
    with pytest.raises(ArtifactError, match="are missing"):
        tiny_context(**OFFICIAL, statistics__source=damaged.url)


def test_a_folder_without_statistics_is_named_before_anything_is_said_of_trees(tmp_path: Path) -> None:
    nowhere = tmp_path / "no" / "such" / "folder"
    with pytest.raises(ConfigError, match=r"there are no statistics in .*/no/such/folder") as caught:
        tiny_context(statistics__source=str(nowhere))
    assert "found:    nothing" in str(caught.value)
    nowhere.mkdir(parents=True)
    (nowhere / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match="found:    other files"):
        tiny_context(statistics__source=str(nowhere))


def test_every_missing_file_of_a_tree_is_found_before_work_starts(damaged: Store) -> None:
    lost = next(path for path in damaged.list() if "/class_1/" in path and path.startswith("Conv"))
    damaged.delete(lost)
    with pytest.raises(ArtifactError, match=r"1 of the \d+ files of statistics .* are missing") as caught:
        tiny_context(**OFFICIAL, statistics__source=damaged.url)
    assert lost in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"recover__variance": "pooled"}, ConfigError, "holds no pooled statistics"),
        ({"squeeze__observers": ["convnet_w32"]}, ArtifactError, "no official statistics of a network"),
        ({"dataset__image_size": 16}, ArtifactError, "of another observer, or of images of another size"),
        ({"statistics__patch_side": 3}, ArtifactError, "of another observer, or of images of another size"),
        ({"dataset__class_names": ["class0", "class1"]}, ArtifactError, "of another dataset"),
    ],
)
def test_a_tree_that_does_not_fit_is_refused_before_work_starts(
    tree: str, fields: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        tiny_context(**OFFICIAL | fields, statistics__source=tree)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"squeeze__observers": ["convnet_w32"]}, "holds no statistics of observer 'convnet_w32'"),
        ({"dataset__image_size": 16}, "statistics of another observer, dataset or image size"),
        ({"dataset__class_names": ["class0", "class1"]}, "is of another dataset"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_before_work_starts(
    finished: StageContext, fields: dict[str, Any], match: str
) -> None:
    with pytest.raises(ArtifactError, match=match):
        tiny_context(**fields, statistics__source=finished.store.url)


def test_statistics_of_other_images_under_another_name_are_refused_and_of_a_part_of_them_are_not(
    finished: StageContext,
) -> None:
    url = finished.store.url
    fewer: dict[str, Any] = {"dataset__max_per_class": 10}
    tiny_context(statistics__source=url, dataset__name="renamed")
    tiny_context(statistics__source=url, **fewer)
    with pytest.raises(ArtifactError, match="statistics of another dataset") as caught:
        tiny_context(statistics__source=url, dataset__name="others", **fewer)
    assert "say dataset.name=shapes" in str(caught.value.next)


def test_pooled_rows_that_an_imported_tree_lacks_are_named(finished: StageContext, tree: str) -> None:
    url = new_root()
    import_statistics(finished.config, tree, url)
    with pytest.raises(ArtifactError, match=r"lacks pooled global statistics of layer 'features\.0'"):
        tiny_context(statistics__source=url)


def test_statistics_of_an_observer_with_other_weights_are_refused(
    copied: Copied, finished: StageContext
) -> None:
    url = finished.store.url
    context = copied("squeeze", "init", *AFTER, squeeze__learning_rate=0.01, statistics__source=url)
    run_pipeline(context, ["squeeze"])
    with pytest.raises(ArtifactError, match=r"'convnet_d1' in .* are of other weights"):
        run_pipeline(context, ["statistics"])


@pytest.mark.parametrize(("scale", "warned"), [(1.0, False), (2.0, True), (0.1, True)])
def test_global_files_that_were_collected_twice_or_divided_by_another_size_are_told(
    finished: StageContext, damaged: Store, caplog: pytest.LogCaptureFixture, scale: float, warned: bool
) -> None:
    for path in damaged.list("ConvFeatureHook"):
        if "/class_" not in path:
            arrays = arrays_from_bytes(damaged.read(path), url=path)
            scaled = {key: array * np.float32(scale) for key, array in arrays.items()}
            damaged.publish(path, arrays_to_bytes(scaled), replace=True)
    with caplog.at_level("WARNING", "edc_ray"):
        import_statistics(finished.config, damaged.url, new_root())
    assert (f"are {scale:.2f} times the mean of its classes" in caplog.text) == warned


def test_two_observers_under_one_name_are_refused() -> None:
    taken: dict[str, str] = {}
    refuse_shared_name(taken, "convnet_d1", "ConvNet")
    with pytest.raises(ArtifactError, match="'convnet_d1' and 'convnet_d2' have one name"):
        refuse_shared_name(taken, "convnet_d2", "ConvNet")


def test_shapes_of_layers_are_those_of_their_inputs_and_patches() -> None:
    network = build_network("wrn_16_2", num_classes=3, image_size=10, channels=1, seed=0)
    shapes = {shape.name: shape for shape in layer_shapes(network, 10, 1, 4)}
    assert list(shapes) == list(LayerTaps(network).names)
    assert shapes["conv1"] == LayerShape("conv1", "conv", 1, 9)
    assert shapes["bn"].patches == 0


def test_a_tree_whose_keys_are_straight_is_read_as_it_is_where_the_config_says_so(
    copied: Copied, finished: StageContext
) -> None:
    dest = new_root()
    export_run(finished.store.url, dest, ExportOptions(parts=["statistics"], class_patch_swapped=False))
    url, targets = f"{dest}/statistics", dict[str, dict[str, LayerTarget]]()
    collected = load_targets(copied("recover", "relabel", "evaluate", **OFFICIAL), "wrn_16_2")
    for keys in ("straight", "exchanged"):
        taken = copied(*AFTER, **OFFICIAL, statistics__source=url, statistics__source_keys=keys)
        run_pipeline(taken, ["statistics"])
        targets[keys] = load_targets(taken, "wrn_16_2")
    assert_same_targets(targets["straight"], collected)
    with pytest.raises(AssertionError):
        assert_same_targets(targets["exchanged"], collected)


def test_the_keys_of_a_run_are_not_in_question(finished: StageContext) -> None:
    with pytest.raises(ConfigError, match="source_keys is for official trees"):
        tiny_context(statistics__source=finished.store.url, statistics__source_keys="straight")
