"""statistics: moments of the observers' layers on the real images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from edc_ray.artifacts.proof.manifest import read_shard
from edc_ray.artifacts.tables.codec import arrays_from_bytes, table_from_bytes
from edc_ray.artifacts.tables.schema import read_statistics_table
from edc_ray.config.load import with_fields
from edc_ray.config.section import StatisticsRequest
from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.seeding import draws
from edc_ray.errors import UnitsFailedError
from edc_ray.stages.pipeline import STAGES, run_pipeline
from edc_ray.stages.statistics import stage as collect_statistics
from edc_ray.stages.units import rendering
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.training import normalised
from tests.stages.tiny_runs import (
    OBSERVERS,
    decoded_from_now_on,
    image_hashes,
    manifest_of,
    run_until,
    tiny_context,
    units_of,
)

Copied = Callable[..., StageContext]
AFTER = ("statistics", "recover", "relabel", "evaluate")


def _table(context: StageContext, name: str) -> dict[tuple[str, str, str, str], dict[str, np.ndarray | None]]:
    (shard,) = (s for s in manifest_of(context, "statistics").shards if s.path == f"{name}.parquet")
    return read_statistics_table(table_from_bytes(read_shard(context.store, "statistics", shard), url="x"))


@pytest.mark.parametrize("batches_per_unit", [1, 3, 100])
def test_sharded_statistics_equal_those_of_one_unit_bit_for_bit(
    copied: Copied, finished: StageContext, batches_per_unit: int
) -> None:
    context = copied(*AFTER, statistics__batches_per_unit=batches_per_unit)
    run_pipeline(context, ["statistics"])
    units = units_of(context, "statistics")
    assert len(units) == -(-4 // batches_per_unit)
    # The last batch is shorter.
    assert sum(STAGES["statistics"].images(context, unit) for unit in units) == len(context.data.train)
    mine, theirs = (
        [shard.sha256 for shard in manifest_of(one, "statistics").shards] for one in (context, finished)
    )
    assert mine == theirs


def _arrays(context: StageContext) -> list[dict[str, np.ndarray]]:
    """The sums of each unit and observer."""
    shards = [collect_statistics.collect(context, unit).shards for unit in units_of(context, "statistics")]
    return [arrays_from_bytes(data, url="x") for unit in shards for _, (data, _) in sorted(unit.items())]


@pytest.mark.parametrize("images", [20, 1000])
def test_data_batches_of_one_forward_have_the_sums_that_they_have_by_themselves(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    context = copied(*AFTER, statistics__batches_per_unit=3, statistics__augmentation="crop_pad")
    alone, forwards = _arrays(context), []
    monkeypatch.setitem(rendering.FORWARD_BYTES, "cpu", images * 4 * 8 * 8)
    add = collect_statistics._ObserverPass.add

    def counted(self: Any, images: torch.Tensor, labels: list[torch.Tensor]) -> None:
        forwards.append(len(images))
        assert len(images) == sum(map(len, labels))
        add(self, images, labels)

    monkeypatch.setattr(collect_statistics._ObserverPass, "add", counted)
    for one, other in zip(alone, _arrays(context), strict=True):
        assert one.keys() == other.keys()
        for name, values in one.items():
            # A convolution of another number of images may round its float32 results differently.
            scale = float(np.abs(values).max()) if values.size else 0.0
            np.testing.assert_allclose(other[name], values, rtol=1e-6, atol=1e-6 * scale, err_msg=name)
    assert forwards[::2] == ([20, 10, 6] if images == 20 else [30, 6])


def test_the_variance_within_a_data_batch_does_not_depend_on_the_forward(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With quantities that are the same in any forward, the sums are the same bits."""
    context = copied(*AFTER, statistics__batches_per_unit=100)

    def quantities_of(self: Any, images: torch.Tensor) -> torch.Tensor:
        if not self.sums._measured_widths:
            forward(self, images)
        columns = sum(map(sum, self.sums._measured_widths.values()))
        pixels = images.flatten(1).double()
        of_each = torch.stack([pixels.mean(1), pixels.square().mean(1), pixels.var(1)])
        return of_each[..., None].repeat(1, 1, columns)

    forward = collect_statistics._ObserverPass._quantities_of
    monkeypatch.setattr(collect_statistics._ObserverPass, "_quantities_of", quantities_of)
    alone = _arrays(context)
    monkeypatch.setitem(rendering.FORWARD_BYTES, "cpu", 1 << 30)
    for one, other in zip(alone, _arrays(context), strict=True):
        assert all(np.array_equal(values, other[name]) for name, values in one.items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_on_cuda_joined_forwards_have_the_sums_of_single_ones(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = replace(copied(*AFTER), device=torch.device("cuda"))
    joined = _arrays(context)
    monkeypatch.setitem(rendering.FORWARD_BYTES, "cuda", 0)
    for one, other in zip(joined, _arrays(context), strict=True):
        for name, values in one.items():
            scale = float(np.abs(values).max()) if values.size else 0.0
            np.testing.assert_allclose(other[name], values, rtol=1e-3, atol=1e-4 * scale, err_msg=name)


def _activations(context: StageContext, name: str) -> tuple[dict[str, list[np.ndarray]], list[np.ndarray]]:
    """Inputs of every layer, float64, and labels: one array for each data batch."""
    train, size = context.data.train, context.config.statistics.batch_size
    order = draws(context.config.seed, "statistics", "order").permutation(len(train))
    network = context.observer(name)
    taps = LayerTaps(network)
    layers: dict[str, list[np.ndarray]] = {layer: [] for layer in taps.names}
    labels = []
    for first in range(0, len(train), size):
        batch = order[first : first + size]
        with torch.no_grad(), taps.recording() as inputs:
            network(normalised(train.fetch(batch), context))
        for layer, values in inputs.items():
            layers[layer].append(values.double().numpy())
        labels.append(train.labels[batch])
    return layers, labels


def _tiles(x_BCHW: np.ndarray, side: int = 4) -> np.ndarray:
    """[P, B, C, side, side]."""
    batch, channels, height, width = x_BCHW.shape
    cut = x_BCHW.reshape(batch, channels, height // side, side, width // side, side)
    return cut.transpose(2, 4, 0, 1, 3, 5).reshape(-1, batch, channels, side, side)


@pytest.mark.parametrize("name", OBSERVERS)
def test_both_definitions_equal_a_direct_computation_in_float64(finished: StageContext, name: str) -> None:
    layers, labels = _activations(finished, name)
    stored, all_labels = _table(finished, name), np.concatenate(labels)
    taps = LayerTaps(finished.observer(name))
    for layer, kind in taps.kinds.items():
        batches = layers[layer]
        x = np.concatenate(batches)
        pixels, sizes = (0, 2, 3), np.array([len(batch) for batch in batches])
        within = np.average([batch.var(pixels) for batch in batches], axis=0, weights=sizes)
        within_image = x.var((2, 3))
        classes = [x[all_labels == label] for label in range(3)]
        expected = {
            ("pooled", "global"): (x.mean(pixels), x.var(pixels)),
            ("pooled", "class"): (
                np.stack([c.mean(pixels) for c in classes]), np.stack([c.var(pixels) for c in classes]),
            ),
            ("official", "global"): (x.mean(pixels), within),
            ("official", "class"): (
                np.stack([c.mean(pixels) for c in classes]),
                np.stack([within_image[all_labels == label].mean(0) for label in range(3)]),
            ),
        }  # fmt: skip
        if kind == "bn":
            running = taps.running_statistics(layer)
            expected["official", "global"] = (running.channel_mean.numpy(), running.channel_variance.numpy())
        for (definition, scope), (mean, variance) in expected.items():
            row = stored[layer, kind, definition, scope]
            np.testing.assert_allclose(_of(row, "channel_mean"), mean, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(_of(row, "channel_variance"), variance, rtol=1e-5, atol=1e-6)
        if kind == "conv" and x.shape[-1] % 4 == 0:
            _check_patches(stored, layer, batches, all_labels)


def _check_patches(stored: dict, layer: str, batches: list[np.ndarray], labels: np.ndarray) -> None:
    tiles = _tiles(np.concatenate(batches))
    inside, sizes = (1, 2, 3, 4), np.array([len(batch) for batch in batches])
    pooled = stored[layer, "conv", "pooled", "global"]
    np.testing.assert_allclose(_of(pooled, "patch_mean"), tiles.mean(inside), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(_of(pooled, "patch_variance"), tiles.var(inside), rtol=1e-5, atol=1e-6)
    within = np.average([_tiles(batch).var(inside) for batch in batches], axis=0, weights=sizes)
    official = stored[layer, "conv", "official", "global"]
    np.testing.assert_allclose(_of(official, "patch_variance"), within, rtol=1e-5, atol=1e-6)
    for label in range(3):
        mine = tiles[:, labels == label]
        by_class = stored[layer, "conv", "pooled", "class"]
        np.testing.assert_allclose(
            _of(by_class, "patch_variance")[label], mine.var(inside), rtol=1e-5, atol=1e-6
        )
        within_image = mine.var((2, 3, 4)).mean(1)
        by_class = stored[layer, "conv", "official", "class"]
        np.testing.assert_allclose(_of(by_class, "patch_variance")[label], within_image, rtol=1e-5, atol=1e-6)


def _of(row: dict[str, np.ndarray | None], quantity: str) -> np.ndarray:
    values = row[quantity]
    assert values is not None
    return values


def test_units_show_every_data_batch_to_every_observer_once(finished: StageContext) -> None:
    work = [unit.work for unit in units_of(finished, "statistics")]
    assert [number for one in work for number in range(one["first"], one["end"])] == [0, 1, 2, 3]
    assert all(one["observers"] == list(OBSERVERS) for one in work)


def test_an_image_is_decoded_once_for_all_observers(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    context = copied(*AFTER)
    decoded = decoded_from_now_on(context, monkeypatch)
    run_pipeline(context, ["statistics"])
    assert sorted(decoded) == list(range(len(context.data.train)))


def test_observers_beside_it_change_no_bit_of_an_observers_statistics(
    copied: Copied, finished: StageContext
) -> None:
    alone = copied(*AFTER, recover__observers=["wrn_16_2"])
    run_pipeline(alone, ["statistics"])
    mine, theirs = (
        {shard.path: shard.sha256 for shard in manifest_of(one, "statistics").shards}
        for one in (alone, finished)
    )
    assert mine == {"wrn_16_2.parquet": theirs["wrn_16_2.parquet"]}


def test_only_observers_of_recover_are_measured() -> None:
    context = tiny_context(recover__observers=["convnet_d1"])
    run_until(context, "statistics")
    assert [shard.path for shard in manifest_of(context, "statistics").shards] == ["convnet_d1.parquet"]


def test_activations_that_are_no_numbers_stop_the_unit_with_observer_and_layer(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = collect_statistics.augmented
    monkeypatch.setattr(
        collect_statistics, "augmented",
        lambda context, batches, section: real(context, batches, section)
        * (float("nan") if ("statistics", 2) in batches else 1.0),
    )  # fmt: skip
    context = copied(*AFTER, statistics__batches_per_unit=1)
    with pytest.raises(UnitsFailedError, match="statistics: 1 of 4 units failed") as caught:
        run_pipeline(context, ["statistics"])
    assert "observer 'convnet_d1', layer 'features.0' has NaN or Inf" in str(caught.value)
    assert "data batches 2" in str(caught.value)


BUFFERS: dict[str, Any] = {
    "recover__observers": ["wrn_16_2"], "recover__layers": ["bn"], "recover__variance": "official",
}  # fmt: skip


@pytest.mark.parametrize("category_aware", ["none", "local"])
def test_targets_that_are_running_estimates_need_no_pass_and_recover_the_same_bits(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, category_aware: str
) -> None:
    fields = BUFFERS | {"recover__category_aware": category_aware, "recover__local_images_per_slot": 2}
    skipped, passed = copied(*AFTER, **fields), copied(*AFTER, **fields)
    with monkeypatch.context() as patched:
        patched.setattr(type(skipped.data.train), "fetch", None)
        run_pipeline(skipped, ["statistics"])
    run_pipeline(skipped, ["recover"])
    assert [unit.key for unit in units_of(skipped, "statistics")] == ["wrn_16_2"]
    assert {key[1:] for key in _table(skipped, "wrn_16_2")} == {("bn", "official", "global")}
    monkeypatch.setattr(StatisticsRequest, "needs_no_images", False)
    run_pipeline(passed, ["statistics", "recover"])
    assert len(units_of(passed, "statistics")) == 2
    assert image_hashes(skipped) == image_hashes(passed)


@pytest.mark.parametrize(
    "fields",
    [
        {"recover__category_aware": "global"},
        {"recover__category_aware": "none", "recover__variance": "pooled"},
        {"recover__category_aware": "none", "recover__layers": ["bn", "conv"]},
    ],
)
def test_all_other_targets_need_the_pass(copied: Copied, fields: dict[str, Any]) -> None:
    context = copied(*AFTER, **BUFFERS | fields)
    assert len(units_of(context, "statistics")) == 2


def test_a_run_that_needs_more_than_running_estimates_later_collects_them(copied: Copied) -> None:
    fields = BUFFERS | {"recover__category_aware": "none"}
    context = copied(*AFTER, **fields)
    run_pipeline(context, ["statistics"])
    wider = with_fields(context.config, {"recover.layers": ["bn", "conv"]})
    again = replace(context, config=wider, _manifests={})
    assert run_pipeline(again, ["statistics"])[0].units_reused == 0
    assert ("conv1", "conv", "official", "global") in _table(again, "wrn_16_2")
