"""Statistic matching of one observer for one batch of condensed images.

D entries of the packed statistics, Q quantities, T targets (see `matching`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.recover.matching import Layout, matching_distances, pack, updated_estimate
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.core.recover.state import Observer, ObserverTargets
from edc_ray.core.seeding import Draws


class ObserverMatcher:
    """Targets and running estimate of one observer's tapped layers, packed.

    The class statistics are averaged over the labels, unless there are `class_targets` ("local"). The images
    give the device and the dtype. `estimates` are those of the layers seen before.

    Raises:
        ValueError: a tapped layer has no target, but a weight asks for it.
    """

    def __init__(
        self,
        observer: Observer,
        targets: ObserverTargets,
        labels_B: Tensor,
        settings: RecoverSettings,
        images: Tensor,
        *,
        class_targets: Mapping[str, LayerStatistics] | None = None,
        estimates: Mapping[str, LayerStatistics] | None = None,
    ) -> None:
        self._kinds, self._settings = observer.taps.kinds, settings
        columns = _targets(observer, targets, labels_B, settings, class_targets)
        self.layout = Layout.of(columns[0][1])
        self._targets_DT = torch.stack([pack(layers.values()).to(images) for _, layers in columns], 1)
        self.quantity_layers = self.layout.quantity_layers
        self._lengths_Q = torch.tensor(self.layout.flat_lengths, device=images.device)
        first = observer.taps.names[0]  # the stem, whose loss is weighted more
        layer_weights = [settings.first_multiplier if name == first else 1.0 for name in self.quantity_layers]
        weights_QT = torch.outer(torch.tensor(layer_weights), torch.tensor([w for w, _ in columns]))
        self._weights_QT = weights_QT.to(images)
        self._entries, self._rows = self.layout.entries, self.layout.rows
        self._estimate_D = torch.zeros_like(self._targets_DT[:, 0])
        self._seen: set[str] = set()
        self._history_D: Tensor | None = None
        for name, where in self.layout.unpack(self._estimate_D).items():
            if estimates and name in estimates:
                for kept, quantity in zip(where.quantities, estimates[name].quantities, strict=True):
                    kept.copy_(quantity)
                self._seen.add(name)

    @property
    def estimates(self) -> dict[str, LayerStatistics]:
        """Running estimates of the layers seen so far."""
        layers = self.layout.unpack(self._estimate_D.clone())
        return {name: layer for name, layer in layers.items() if name in self._seen}

    def dropped(self, draws: Draws) -> set[str]:
        """Layers to leave out of one forward; reads the draws only if the drop rate is not 0."""
        rate = self._settings.drop_rate
        if not rate:
            return set()
        convolutions = [name for name, kind in self._kinds.items() if kind == "conv"]
        chances = draws.uniform(len(convolutions))
        return {name for name, chance in zip(convolutions, chances, strict=True) if chance > 1 - rate}

    def observe(self, statistics: Mapping[str, LayerStatistics]) -> tuple[Tensor, Tensor]:
        """Updates the running estimate with one forward and measures it.

        Layers that the statistics of `LayerTaps.measuring` lack were dropped. Returns the weighted sum over
        layers, a scalar with gradient, and the distances [Q, T] it is made of.
        """
        dropped = self.layout.lengths.keys() - statistics.keys()
        current = self._packed(statistics)
        history = self._history() if self._history_D is None else self._history_D
        matched, state = updated_estimate(self._estimate_D, current, history)
        if self._history_D is not None:
            self._history_D.fill_(self._settings.statistic_momentum)
        weights_QT = self._weights_QT
        if dropped:
            # Filled on the device, because values from the host would have to wait for it.
            state = state.clone()
            weights_QT = weights_QT.clone()
            for name in dropped:
                state[self._entries[name]] = self._estimate_D[self._entries[name]]
                weights_QT[self._rows[name]] = 0
        # In place, because a captured step reads it where it was.
        self._estimate_D.copy_(state)
        if len(self._seen) < len(self.layout.lengths):
            self._seen |= self.layout.lengths.keys() - dropped
        distances_QT = matching_distances(matched, self._targets_DT, self._lengths_Q)
        return (distances_QT * weights_QT).sum(), distances_QT

    def adopt(self, other: ObserverMatcher) -> None:
        """Takes the targets and the running estimates of another batch into its own memory.

        From then on its weights of history are on the device, no matter which layers were seen before, so
        that a captured step works for the next batch too.
        """
        self._targets_DT.copy_(other._targets_DT)
        self._estimate_D.copy_(other._estimate_D)
        self._seen = set(other._seen)
        self.weigh_history_on_the_device()

    def weigh_history_on_the_device(self) -> None:
        """From now on weights of history are numbers on the device that stay where they are, see `adopt`."""
        if self._history_D is None:
            self._history_D = torch.empty_like(self._estimate_D)
        history = self._history()
        if isinstance(history, Tensor):
            self._history_D.copy_(history)
        else:
            self._history_D.fill_(history)

    def saw_all(self) -> None:
        """Notes that a replay observed all layers."""
        self._seen.update(self.layout.lengths)

    def _packed(self, statistics: Mapping[str, LayerStatistics]) -> Tensor:
        pieces: list[Tensor] = []
        for name, lengths in self.layout.lengths.items():
            if name not in statistics:
                pieces.append(self._estimate_D.new_zeros(sum(lengths)))
                continue
            quantities = statistics[name].quantities
            if (found := tuple(len(each) for each in quantities)) != lengths:
                raise ValueError(
                    f"layer {name!r} has quantities of lengths {found} here, its targets {lengths}; "
                    "statistics and recover must use one image size and patch side"
                )
            pieces.extend(quantities)
        return torch.cat(pieces)

    def _history(self) -> Tensor | float:
        """Weight of history, by entry while a layer that was not seen yet has none."""
        momentum = self._settings.statistic_momentum
        missing = self.layout.lengths.keys() - self._seen
        if self._settings.estimate_start == "zero" or not missing:
            return momentum
        history = torch.full_like(self._estimate_D, momentum)
        for name in missing:
            history[self._entries[name]] = 0
        return history


def _targets(
    observer: Observer,
    targets: ObserverTargets,
    labels_B: Tensor,
    settings: RecoverSettings,
    class_targets: Mapping[str, LayerStatistics] | None,
) -> list[tuple[float, dict[str, LayerStatistics]]]:
    """(weight, layer -> target) for each term whose weight is not 0, layers in module order."""
    names = observer.taps.names
    columns: list[tuple[float, dict[str, LayerStatistics]]] = []

    def add(weight: float, found: Mapping[str, LayerStatistics], what: str) -> None:
        if missing := [name for name in names if name not in found]:
            raise ValueError(
                f"observer {observer.name!r} has no {what} of layer {missing[0]!r} ({len(missing)} missing)"
            )
        columns.append((weight, {name: found[name] for name in names}))

    if settings.global_weight:
        whole = {name: target.global_ for name, target in targets.items()}
        add(settings.global_weight, whole, "global statistics")
    class_weight = settings.class_weight_in_use
    if class_weight and class_targets is not None:
        add(class_weight, class_targets, "local class statistics")
    elif class_weight:
        tables = {name: targets[name].classes for name in names if name in targets}
        means = {name: table.mean_over(labels_B) for name, table in tables.items() if table is not None}
        add(class_weight, means, "class statistics")
    return columns
