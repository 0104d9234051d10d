"""statistics: what the real images look like in every layer of every observer.

One unit is a range of data batches. Each batch is decoded once, in a thread while the networks work on the
one before. It is shown to all observers. Each observer's sums are merged in plan order, so that the result
does not depend on where or in which order units ran. Both definitions of the variance are kept. In memory are
two batches of images, one layer's input, and the sums: 24 bytes for each class and statistic of every
observer. If nothing has to be collected, a unit is one observer: its statistics come from
`statistics.source`, or from the observer itself if recover matches only running estimates of BatchNorms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edc_ray.artifacts.proof.manifest import read_shard, write_unit
from edc_ray.artifacts.proof.records import JOINED_UNITS, Record
from edc_ray.artifacts.storage.layout import arrays_name, batches_key, network_key, table_name
from edc_ray.artifacts.tables.codec import arrays_from_bytes, arrays_to_bytes, table_to_bytes
from edc_ray.artifacts.tables.official_statistics import Rows
from edc_ray.artifacts.tables.schema import build_statistics_table
from edc_ray.config.run import RunConfig
from edc_ray.core.captured_step import CapturedForward
from edc_ray.core.layers.accumulator import StatisticsAccumulator
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.seeding import draws
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.digests import digest_of
from edc_ray.errors import ArtifactError, NumericalError
from edc_ray.kernels.cpu.statistics import image_statistics_for, kernels_for
from edc_ray.stages.squeeze import stage as squeeze
from edc_ray.stages.squeeze.stage import augmented
from edc_ray.stages.statistics.source import FOLDER, RunSource, Wanted, check_source, open_source, wanted_of
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import Stage, UnitOutput, WorkUnit, blocks, span
from edc_ray.stages.units.rendering import consecutive, images_of_a_forward, rendered_batches

BUFFERS_ONLY = "buffers_only"
"""Key in the manifest's meta: the tables hold only BatchNorms' running estimates."""


def plan(context: StageContext) -> list[WorkUnit]:
    """All training images are seen once, in one fixed order, in batches of one fixed size."""
    section, request = context.config.statistics, context.config.statistics_request
    if section.source is not None or request.needs_no_images or not request.observers:
        return [
            WorkUnit("statistics", network_key(name), f"observer {name}", {"observer": name})
            for name in request.observers
        ]
    num_batches = -(-len(context.data.train) // section.batch_size)
    return [
        WorkUnit(
            "statistics",
            batches_key(first, end - 1),
            span("data batches", first, end),
            {"observers": list(request.observers), "first": first, "end": end},
        )
        for first, end in blocks(num_batches, section.batches_per_unit)
    ]


def inputs(context: StageContext, unit: WorkUnit) -> Any:
    """The observers' weights, and the images or files that their statistics come from."""
    if "observers" in unit.work:
        return [context.data.train.content_hash, context.observer_digests(unit.work["observers"])]
    name, url = unit.work["observer"], context.config.statistics.source
    weights = context.observer_digests([name])
    if url is None:
        return [weights]
    source = open_source(context.config.statistics)
    known = source.weights(name) if isinstance(source, RunSource) else None
    if known not in (None, weights[name]):
        raise ArtifactError(
            f"statistics: those of observer '{name}' in {url} are of other weights",
            found=known,
            expected=weights[name],
            next="take statistics of the same observers, or unset statistics.source to collect them",
        )
    return [source.read(_wanted(context, name))[1], weights]


def collect(context: StageContext, unit: WorkUnit) -> UnitOutput:
    if "observers" in unit.work:
        return accumulate_batches(context, unit)
    name = unit.work["observer"]
    take = _from_buffers if context.config.statistics.source is None else _from_source
    return UnitOutput(_shards(context, name, take(context, name)), _facts(context, name))


def _from_source(context: StageContext, name: str) -> Rows:
    wanted, taps, rows = _wanted(context, name), LayerTaps(context.observer(name)), Rows()
    found, _ = open_source(context.config.statistics).read(wanted)
    for layer in wanted.layers:
        key = layer.name, layer.kind
        if layer.kind == "bn":  # its official global target is in no file: it is the observer's own estimate
            found[*key, "official", "global"] = _arrays(taps.running_statistics(layer.name))
        rows |= {full: values for full, values in found.items() if full[:2] == key}
    return rows


def _from_buffers(context: StageContext, name: str) -> Rows:
    taps = LayerTaps(context.observer(name), ("bn",))
    kind = "bn", "official", "global"
    return {(layer, *kind): _arrays(taps.running_statistics(layer)) for layer in taps.names}


def _shards(context: StageContext, name: str, rows: Rows) -> dict[str, tuple[bytes, int]]:
    table = build_statistics_table(rows, context.data.train.class_names, dataset=context.config.dataset.name)
    return {table_name(network_key(name)): (table_to_bytes(table), table.num_rows)}


def _wanted(context: StageContext, name: str) -> Wanted:
    return wanted_of(context.config, name, context.observer(name), context.data.train.class_names)


def _facts(context: StageContext, name: str) -> dict[str, str]:
    return {"observer": name, "weights": context.observer_digests([name])[name]}


class _ObserverPass:
    """An observer, and the sums of its statistics over the batches."""

    def __init__(self, context: StageContext, name: str) -> None:
        self.name, self._at_once = name, context.at_once
        network = context.fused_observer(name, "inputs", compiled=False)
        numerics = context.numerics(compiled=False)
        self._forward = numerics.forward(network)
        self.taps = LayerTaps(network, kernels=kernels_for(context.device, numerics.memory_format))
        self.sums = StatisticsAccumulator(self.taps.kinds, context.config.statistics.patch_side)
        self._measure = image_statistics_for(context.device)
        self._quantities: Callable[[Tensor], Tensor] = self._quantities_of
        if context.device.type == "cuda" and context.config.compile == "auto":
            self._quantities = CapturedForward(self._quantities_of, context.device)

    def add(self, images: Tensor, labels: list[Tensor]) -> None:
        """Adds data batches in their order, whose images stand one after the other."""
        quantities = self._at_once.forward("statistics", self.name, self._quantities, images, dim=1)
        # A data batch is added whole, because the official variance is that within a batch.
        for part, each in zip(quantities.split(list(map(len, labels)), 1), labels, strict=True):
            self.sums.add_quantities(part, each)

    def _quantities_of(self, images: Tensor) -> Tensor:
        with self.taps.measuring_images(self._measure, self.sums.patch_side) as measured:
            self._forward(images.contiguous(memory_format=self.taps.kernels.memory_format))
        return self.sums.quantities(measured)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The sums; a NumericalError if one of them is NaN or Inf."""
        arrays = self.sums.to_arrays()
        for key, values in arrays.items():
            if not np.isfinite(values).all():
                layer = key.split("|")[0]
                raise NumericalError(
                    f"statistics: observer '{self.name}', layer '{layer}' has NaN or Inf activations",
                    next="train the observer again with a lower squeeze.learning_rate",
                )
        return arrays


@torch.no_grad()
def accumulate_batches(context: StageContext, unit: WorkUnit) -> UnitOutput:
    passes = [_ObserverPass(context, name) for name in unit.work["observers"]]
    for images, labels in _data_batches(context, range(unit.work["first"], unit.work["end"])):
        for each in passes:
            each.add(images, labels)
    shards = {}
    for each in passes:
        arrays = each.to_arrays()
        shards[arrays_name(each.name, unit.key)] = (arrays_to_bytes(arrays), len(arrays))
    # Compiled kernels and torch's operations round differently in the last bits.
    facts = {"kernels": passes[0].taps.kernels.name, **context.at_once.facts("statistics")}
    return UnitOutput(shards, facts)


def _data_batches(context: StageContext, numbers: range) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Some data batches: normalised images of as many as one forward takes, and the labels of each batch.

    The next ones are decoded meanwhile.
    """
    section, train = context.config.statistics, context.data.train
    order = draws(context.config.seed, "statistics", "order").permutation(len(train))
    places = [slice(number * section.batch_size, (number + 1) * section.batch_size) for number in numbers]
    chosen = [order[place] for place in places]
    forwards = list(consecutive(list(map(len, chosen)), images_of_a_forward(context, section.batch_size)))

    def render(some: range) -> tuple[Tensor]:
        batches = range(forwards[some[0]].start, forwards[some[-1]].stop)
        keyed = {("statistics", numbers[batch]): chosen[batch] for batch in batches}
        return (augmented(context, keyed, section),)

    sizes = [sum(len(chosen[batch]) for batch in forward) for forward in forwards]
    rendered = rendered_batches([(sizes, render)], context, in_a_thread=True)
    labels = np.asarray(train.labels)
    for forward, (images,) in zip(forwards, rendered, strict=True):
        yield images, [torch.from_numpy(labels[chosen[batch]]) for batch in forward]


def finish(context: StageContext, records: list[Record]) -> tuple[list[Record], dict[str, Any]]:
    """Merges the sums of each observer in plan order and stores one table for each."""
    section, request = context.config.statistics, context.config.statistics_request
    meta = {"patch_side": section.patch_side}
    if section.source is not None:
        return records, meta
    if request.needs_no_images:
        return records, meta | {BUFFERS_ONLY: True}
    # The manifest names the merged records, whose number is not that of the units.
    merged = [_merge_observer(context, name, records) for name in request.observers]
    return merged, meta | {JOINED_UNITS: len(records)}


def _merge_observer(context: StageContext, name: str, records: list[Record]) -> Record:
    sums: StatisticsAccumulator | None = None
    for record in records:
        (shard,) = (shard for shard in record.shards if shard.path == arrays_name(name, record.unit))
        data = read_shard(context.store, FOLDER, shard)
        url = context.store.join(f"{FOLDER}/{shard.path}")
        part = StatisticsAccumulator.from_arrays(arrays_from_bytes(data, url=url))
        if sums is None:
            sums = part
        else:
            sums.merge(part)
    assert sums is not None
    # The driver joins the sums, and its machine may have no GPU.
    on_cpu = StageContext(context.config, context.store, context.data, torch.device("cpu"))
    shards = _shards(context, name, _rows(sums, LayerTaps(on_cpu.observer(name))))
    fingerprint = digest_of([record.fingerprint for record in records])
    return write_unit(context.store, FOLDER, network_key(name), fingerprint, shards, _facts(context, name))


def _rows(sums: StatisticsAccumulator, taps: LayerTaps) -> Rows:
    rows = Rows()
    for layer, kind in sums.kinds.items():
        # The official target of a BatchNorm is its own running estimate, not a statistic of the pass.
        official = taps.running_statistics(layer) if kind == "bn" else sums.official_global(layer)
        rows[layer, kind, "pooled", "global"] = _arrays(sums.pooled_global(layer))
        rows[layer, kind, "official", "global"] = _arrays(official)
        rows[layer, kind, "pooled", "class"] = _arrays(sums.pooled_class(layer))
        rows[layer, kind, "official", "class"] = _arrays(sums.official_class(layer))
    return rows


def _arrays(statistics: LayerStatistics) -> dict[str, np.ndarray | None]:
    return {name: None if array is None else array.cpu().numpy() for name, array in vars(statistics).items()}


def passes(config: RunConfig, data: OpenedDataset) -> dict[str, int]:
    request = config.statistics_request
    if config.statistics.source is not None or request.needs_no_images:
        return {}
    return dict.fromkeys(request.observers, len(data.train))


def images_of(context: StageContext, unit: WorkUnit) -> int:
    """Real images that all observers see."""
    if "observers" not in unit.work:
        return 0
    size, total = context.config.statistics.batch_size, len(context.data.train)
    return min(unit.work["end"] * size, total) - unit.work["first"] * size


STAGE = Stage(
    name="statistics",
    version=4,
    needs=(squeeze.STAGE,),
    check=lambda config, data, store: check_source(config, data),
    plan=plan,
    inputs=inputs,
    run_unit=collect,
    finish=finish,
    passes=passes,
    images=images_of,
)
