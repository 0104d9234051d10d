"""import and import-statistics: files that do not fit are refused before anything is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edc_ray.artifacts.proof.manifest import verify_run
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.official_statistics import LayerShape, write_official_statistics
from edc_ray.artifacts.tables.schema import read_statistics_table
from edc_ray.config.load import with_fields
from edc_ray.config.run import RunConfig
from edc_ray.data.condensed.images import CondensedImages, CondensedViews
from edc_ray.errors import ArtifactError, ConfigError, DataError
from edc_ray.models.registry import build_network
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.export.run import export_run
from edc_ray.sharing.import_official import import_images, import_statistics
from edc_ray.stages.statistics.source import layer_shapes
from edc_ray.stages.units.context import StageContext
from tests.models.test_official_paths import OFFICIAL
from tests.stages.tiny_runs import new_root


@pytest.fixture(scope="module")
def exported(finished: StageContext) -> str:
    """URL of the finished run in the official layouts, read by all tests."""
    dest = new_root()
    export_run(finished.store.url, dest, ExportOptions())
    return dest


@pytest.fixture
def config(finished: StageContext) -> RunConfig:
    return finished.config


@pytest.fixture
def copy(exported: str) -> Store:
    """What was exported, to be damaged."""
    source, target = open_store(exported), open_store(new_root())
    for path in source.list():
        target.publish(path, source.read(path))
    return target


def import_copy(copy: Store, config: RunConfig, *, with_labels: bool = True) -> Store:
    dest = new_root()
    import_images(config, copy.join("images"), dest, labels=copy.join("labels") if with_labels else None)
    return open_store(dest)


def test_an_imported_folder_reads_like_a_run(copy: Store, config: RunConfig) -> None:
    store = import_copy(copy, config)
    images = CondensedImages(store.url)
    assert (len(images), images.class_names) == (6, config.dataset.class_names)
    assert CondensedViews(store.url).num_epochs == 3
    assert verify_run(store) == []


def test_without_class_names_classes_are_known_by_number(copy: Store, config: RunConfig) -> None:
    unnamed = with_fields(config, {"dataset.class_names": None, "dataset.num_classes": None})
    assert CondensedImages(import_copy(copy, unnamed, with_labels=False).url).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"dataset.class_names": None, "dataset.num_classes": 4}, "images of another dataset"),
        ({"dataset.image_size": 16}, "another dataset or size"),
        ({"dataset.channels": 3, "dataset.mean": None, "dataset.std": None}, "another dataset or size"),
    ],
)
def test_images_of_another_dataset_or_size_are_refused(
    copy: Store, config: RunConfig, fields: dict[str, object], match: str
) -> None:
    dest = new_root()
    with pytest.raises(DataError, match=match):
        import_images(with_fields(config, fields), copy.join("images"), dest)
    assert not open_store(dest).list()


def test_labels_of_another_image_set_are_refused_before_anything_is_written(
    copy: Store, config: RunConfig
) -> None:
    for label in range(3):
        copy.delete(f"images/new{label:03d}/class{label:03d}_id001.png")
    dest = new_root()
    with pytest.raises(DataError, match="labels of another image set") as caught:
        import_images(config, copy.join("images"), dest, labels=copy.join("labels"))
    assert "there are 3 images" in str(caught.value.expected)
    assert not open_store(dest).list()


def test_a_damaged_epoch_is_named_and_leaves_no_complete_labels(copy: Store, config: RunConfig) -> None:
    copy.publish("labels/epoch_2/batch_1.tar", b"half", replace=True)
    dest = new_root()
    with pytest.raises(ArtifactError, match=r"epoch_2/batch_1\.tar is no official label file"):
        import_images(config, copy.join("images"), dest, labels=copy.join("labels"))
    with pytest.raises(ArtifactError, match="stage relabel is not complete"):
        CondensedViews(dest)


def test_a_folder_that_holds_results_is_not_written_to(copy: Store, config: RunConfig) -> None:
    store = import_copy(copy, config, with_labels=False)
    with pytest.raises(ConfigError, match="is not empty"):
        import_images(config, copy.join("images"), store.url)
    import_statistics(config, copy.join("statistics"), store.url)  # another stage of the same folder


def test_statistics_need_the_size_of_the_images(copy: Store, config: RunConfig) -> None:
    with pytest.raises(ConfigError, match=r"needs to know dataset\.image_size"):
        import_statistics(
            with_fields(config, {"dataset.image_size": None}), copy.join("statistics"), new_root()
        )


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"squeeze.observers": ["convnet_d1", "resnet18_small"]}, "no official statistics of a network"),
        ({"dataset.image_size": 16}, "another observer, or of images of another size"),
        ({"statistics.patch_side": 2}, "another observer, or of images of another size"),
        ({"dataset.class_names": ["a", "b"], "dataset.num_classes": 2}, "of another dataset"),
        ({"dataset.class_names": list("abcd"), "dataset.num_classes": 4}, "are missing"),
    ],
)
def test_statistics_of_another_observer_dataset_or_size_are_refused(
    copy: Store, config: RunConfig, fields: dict[str, object], match: str
) -> None:
    dest = new_root()
    with pytest.raises(ArtifactError, match=match):
        import_statistics(with_fields(config, fields), copy.join("statistics"), dest)
    assert not open_store(dest).list()


def test_class_files_are_needed_unless_recover_takes_classes_from_real_images(
    copy: Store, config: RunConfig
) -> None:
    for path in copy.list("statistics/BNFeatureHook"):
        copy.delete(path)
    with pytest.raises(ArtifactError, match="are missing") as caught:
        import_statistics(config, copy.join("statistics"), new_root())
    assert "BNFeatureHook/class_0/WideResNet_WRN_16_2=" in str(caught.value)
    local = with_fields(config, {"recover.category_aware": "local"})
    assert "convnet_d1, wrn_16_2" in import_statistics(local, copy.join("statistics"), new_root())


def test_keys_are_exchanged_by_the_flag_alone(copy: Store, config: RunConfig) -> None:
    swapped, straight, plain = new_root(), new_root(), new_root()
    import_statistics(config, copy.join("statistics"), swapped)
    import_statistics(config, copy.join("statistics"), straight, class_patch_swapped=False)
    export_run(swapped, plain, ExportOptions(class_patch_swapped=False))
    again = new_root()
    import_statistics(config, f"{plain}/statistics", again, class_patch_swapped=False)
    read = [open_store(url).read("statistics/convnet_d1.parquet") for url in (swapped, straight, again)]
    assert read[0] == read[2] != read[1]


def literal_tree(name: str, network: str) -> tuple[Store, dict[str, np.ndarray]]:
    """A tree of two classes under literal official names, and the class means of each layer in it."""
    built = build_network(name, num_classes=2, image_size=32, channels=3, seed=0)
    rng, rows, means = np.random.default_rng(0), dict[Any, Any](), dict[str, np.ndarray]()
    for (layer, channels), shape in zip(OFFICIAL[name], layer_shapes(built, 32, 3, 4), strict=True):
        lengths = LayerShape(layer, shape.kind, channels, shape.patches).lengths
        for scope, lead in (("global", ()), ("class", (2,))):
            made = {quantity: rng.random((*lead, size), np.float32) for quantity, size in lengths.items()}
            rows[layer, shape.kind, "official", scope] = made
        means[shape.name] = rows[layer, shape.kind, "official", "class"]["channel_mean"]
    store = open_store(new_root())
    write_official_statistics(store, network, rows)
    return store, means


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("resnet18_small", "ResNet"),
        ("wrn_16_2", "WideResNet"),
        ("mobilenet_v2_small", "MobileNetV2_MobileNetV2"),
        ("shufflenet_v2_x0_5_small", "ShuffleNetV2_ShuffleNetV2_0_5"),
        ("convnet_w128", "ConvNet_ConvNetW128"),
    ],
)
def test_a_tree_under_the_official_names_is_read_as_our_layers_and_written_back(
    config: RunConfig, name: str, network: str
) -> None:
    tree, means = literal_tree(name, network)
    dest, again = new_root(), new_root()
    fields = {
        "squeeze.observers": [name], "dataset.image_size": 32, "dataset.channels": 3,
        "dataset.class_names": ["a", "b"], "dataset.num_classes": 2,
    }  # fmt: skip
    import_statistics(with_fields(config, fields), tree.url, dest)
    data = open_store(dest).read(f"statistics/{name}.parquet")
    rows = read_statistics_table(table_from_bytes(data, url=dest), url=dest)
    found = {key[0]: values["channel_mean"] for key, values in rows.items() if key[3] == "class"}
    assert list(found) == list(means)
    for layer, mean in means.items():
        np.testing.assert_array_equal(found[layer], mean, err_msg=layer)  # type: ignore[arg-type]
    export_run(dest, again, ExportOptions(parts=["statistics"]))
    written = open_store(f"{again}/statistics")
    assert written.list() == tree.list()
    for path in tree.list():
        assert written.read(path) == tree.read(path)
