"""What later stages ask the statistics stage for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layers = Literal["bn", "conv"]
Definition = Literal["pooled", "official"]


@dataclass(frozen=True)
class StatisticsRequest:
    """Statistics of the real images that one stage, or several together, ask for."""

    observers: tuple[str, ...] = ()
    """Whose layers are measured, in order."""
    layers: frozenset[Layers] = frozenset()
    definitions: frozenset[Definition] = frozenset()
    """Of the variance."""
    by_class: bool = False
    """Whether statistics of each class are needed, besides those of all images."""

    def __or__(self, other: StatisticsRequest) -> StatisticsRequest:
        return StatisticsRequest(
            tuple(dict.fromkeys(self.observers + other.observers)),
            self.layers | other.layers,
            self.definitions | other.definitions,
            self.by_class or other.by_class,
        )

    @property
    def needs_no_images(self) -> bool:
        """Whether the BatchNorms' own running estimates are enough, as in SRe2L and CDA."""
        return self.layers == {"bn"} and self.definitions == {"official"} and not self.by_class
