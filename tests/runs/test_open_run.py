"""Opening a run: the config is resolved, and what cannot work is refused before work starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edc_ray.artifacts.storage.layout import RUN_CONFIG, RUN_DATA, manifest_path, stage_folder
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables import codec
from edc_ray.config.dataset import INFERRED_FIELDS
from edc_ray.config.load import load_recipe, load_yaml, with_fields
from edc_ray.config.run import STAGE_NAMES
from edc_ray.data.condensed import label_epochs
from edc_ray.data.condensed.images import CondensedViews
from edc_ray.errors import ArtifactError, ConfigError, DataError
from edc_ray.report.run_report import class_table
from edc_ray.runs.open_run import (
    _with_whole_paths,
    open_inputs,
    open_run,
    run_url,
)
from edc_ray.stages.units.context import StageContext
from tests.stages.more_classes import REAL, five_classes, run_of
from tests.stages.tiny_runs import copy_root, new_root, run_until, tiny_config, tiny_context


def _root_of(context: StageContext) -> str:
    return context.store.url.rsplit("/", 1)[0]


def test_a_relative_root_is_made_absolute_and_a_url_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_url(tiny_config("here/there")) == str(tmp_path / "here/there/digits")
    assert run_url(tiny_config("memory://somewhere/")) == "memory://somewhere/digits"
    assert run_url(tiny_config(run__name="other", storage__root=None)) == str(tmp_path / "runs/other")


def test_the_resolved_config_states_what_was_inferred_and_is_stored_with_the_run() -> None:
    context = tiny_context()
    spec = context.config.dataset
    assert all(getattr(spec, field) is not None for field in INFERRED_FIELDS)
    assert (spec.num_classes, spec.image_size, spec.channels) == (3, 8, 1)
    assert context.config.device == "cpu"
    assert load_yaml(context.store.read(RUN_CONFIG).decode()) == context.config


def test_a_stored_config_opens_the_same_run_again(finished: StageContext) -> None:
    config = load_yaml(finished.store.read(RUN_CONFIG).decode())
    assert open_inputs(config).config == config


def test_shards_of_the_own_run_are_read_without_the_reader_process_and_a_set_by_its_url_with_it(
    copied: Callable[..., StageContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = copied("recover", "relabel", "evaluate")
    proven, trusted = list[bool](), list[bool]()
    monkeypatch.setattr(codec, "prove", lambda *_, **__: proven.append(True))
    open_groups = label_epochs.ParquetGroups

    def opened(*file: Any, ours: bool) -> label_epochs.ParquetGroups:
        trusted.append(ours)
        return open_groups(*file, ours=ours)

    monkeypatch.setattr(label_epochs, "ParquetGroups", opened)
    run_until(context, "evaluate")
    assert class_table(context.store).lines
    assert not proven
    assert set(trusted) == {True}
    CondensedViews(context.store.url)
    assert proven
    assert not trusted[-1]


def test_a_config_that_was_copied_with_a_value_it_cannot_have_is_refused() -> None:
    config = tiny_config()
    named = config.model_copy(update={"run": config.run.model_copy(update={"name": "a b"})})
    with pytest.raises(ConfigError, match=r"run\.name"):
        open_inputs(named)


def test_relative_places_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = tiny_config(dataset__train="pictures", dataset__val="sklearn:digits", init__source="runs/one")
    whole = _with_whole_paths(given)
    assert (whole.dataset.train, whole.init.source) == (
        str(tmp_path / "pictures"),
        str(tmp_path / "runs/one"),
    )
    assert whole.dataset.val == "sklearn:digits"
    assert whole.storage.root == given.storage.root  # memory://...
    relative = _with_whole_paths(tiny_config("here", storage__options={"a": 1})).storage
    assert (relative.root, relative.options) == (str(tmp_path / "here"), {"a": 1})
    assert _with_whole_paths(tiny_config(storage__root=None)).storage.root == str(tmp_path / "runs")


def test_a_manifest_of_a_newer_edc_ray_is_refused_before_work_starts(finished: StageContext) -> None:
    root = copy_root(finished.store, leave_out=["squeeze"])
    store = tiny_context(root).store
    path = manifest_path("results")
    store.publish(path, store.read(path).replace(b'"schema_version":1', b'"schema_version":2'), replace=True)
    with pytest.raises(ArtifactError, match="written by a newer edc-ray"):
        tiny_context(root)


@pytest.mark.parametrize("unwritten", [RUN_CONFIG, RUN_DATA])
def test_a_run_killed_while_it_takes_more_classes_opens_again(
    unwritten: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = run_of(3, **REAL)
    run_until(few, "init")
    root, publish, source = _root_of(few), Store.publish, five_classes()

    def dies(self: Store, path: str, data: bytes, *, replace: bool = False) -> bool:
        if path == unwritten:
            raise RuntimeError
        return publish(self, path, data, replace=replace)

    monkeypatch.setattr(Store, "publish", dies)
    with pytest.raises(RuntimeError):
        run_of(5, root, **REAL, **source)
    monkeypatch.undo()
    if unwritten == RUN_CONFIG:
        assert run_until(run_of(3, root, **REAL, **source), "init")[-1].units_done == 0
    grown = run_of(5, root, **REAL, **source)
    assert run_until(grown, "init")[-1].units_reused == 1


def test_an_observer_or_student_nobody_knows_is_refused_with_the_nearest() -> None:
    for field in ("squeeze__observers", "evaluate__students"):
        root = new_root()
        with pytest.raises(ConfigError, match="convnet_d9") as caught:
            tiny_context(root, **{field: ["convnet_d9"]})
        assert "convnet_d1" in str(caught.value)


def test_a_network_that_pools_the_images_away_is_refused() -> None:
    with pytest.raises(ConfigError, match="network 'alexnet' cannot take images of 8x8"):
        tiny_context(evaluate__students=["alexnet"])


def test_ipc_above_the_class_size_is_refused_only_where_real_images_start_recover() -> None:
    with pytest.raises(DataError, match="class 'class0' has fewer images than ipc") as caught:
        open_inputs(tiny_config(ipc=13, init__kind="real"))
    assert "12 training images" in str(caught.value.found)
    open_inputs(tiny_config(ipc=12, init__kind="real"))
    open_inputs(tiny_config(ipc=13, init__kind="real", init__replacement=True))
    open_inputs(tiny_config(ipc=13, init__kind="mosaic"))


def test_storage_below_a_regular_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="file"):
        open_inputs(tiny_config(str(tmp_path / "file" / "runs")))


def test_a_refused_run_writes_no_manifest() -> None:
    root = new_root()
    with pytest.raises(DataError):
        tiny_context(root, ipc=13, init__kind="real")
    context = tiny_context(root)
    assert context.store.list() == [RUN_DATA, RUN_CONFIG]
    assert not any(context.store.exists(manifest_path(stage_folder(stage))) for stage in STAGE_NAMES)


def test_several_processes_for_one_network_are_refused_without_ray(
    copied: Callable[..., StageContext],
) -> None:
    config = with_fields(copied().config, {"squeeze.num_workers": 2})
    with pytest.raises(ConfigError, match="needs Ray"):
        open_inputs(config)


def test_a_job_without_a_storage_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(ConfigError, match="a job needs storage"):
        run_url(load_recipe("digits"))


def test_more_bands_than_pixels_are_refused_before_work_starts() -> None:
    with pytest.raises(ConfigError, match="more bands than an image has pixels") as caught:
        open_inputs(tiny_config(relabel__patch_shuffle=9))
    assert (caught.value.found, caught.value.expected) == ("9 bands", "at most 8")
    open_inputs(tiny_config(relabel__patch_shuffle=8))


def test_a_rate_of_a_student_that_there_is_not_is_refused() -> None:
    fields: dict[str, Any] = {"evaluate__learning_rates": {"resnet18": 0.01, "mobilnet_v2": 0.0025}}
    with pytest.raises(ConfigError, match="learning_rates: unknown network 'mobilnet_v2'") as caught:
        open_inputs(tiny_config(**fields))
    assert caught.value.next == "did you mean 'mobilenet_v2'?"
    open_inputs(tiny_config(evaluate__learning_rates={"mobilenet_v2": 0.0025}))


def test_the_nearest_names_of_a_rate_are_told_once() -> None:
    fields = {"evaluate__students": ["convnet_d1"], "evaluate__learning_rates": {"convnet_d11": 0.01}}
    with pytest.raises(ConfigError, match="unknown network 'convnet_d11'") as caught:
        open_inputs(tiny_config(**fields))
    nearest = str(caught.value.expected).removeprefix("one of ").split(", ")
    assert nearest[0] == "convnet_d1"
    assert len(nearest) == len({*nearest})


def test_a_decoder_on_the_device_needs_cuda() -> None:
    inputs = open_inputs(tiny_config(dataset__decoder="device"))
    with pytest.raises(ConfigError, match=r"dataset\.decoder=device needs CUDA") as caught:
        open_run(inputs, torch.device("cpu"))
    assert caught.value.found == "device cpu"
    assert "dataset.decoder=pillow" in str(caught.value.next)
