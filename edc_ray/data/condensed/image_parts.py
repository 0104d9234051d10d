"""A part of a condensed set: fewer classes, fewer images of each. Nothing is made or written for it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from edc_ray.artifacts.tables.schema import ImageRows
from edc_ray.errors import ConfigError


def part_of_images(
    rows: ImageRows, ipc: int | None, classes: Sequence[str] | None, *, url: str = "a condensed set"
) -> ImageRows:
    """Some images of a set, by label, then ipc id.

    Args:
        rows: the set.
        ipc: the first so many images of each class; None: all.
        classes: names of those to keep, which get the labels 0, 1, ... in this order; None: all.
        url: what errors call the set.

    Raises:
        ConfigError: a class is not there or named twice, none is named, or there are not so many images.
    """
    names = rows.class_names if classes is None else tuple(classes)
    _refuse_other_names(rows.class_names, names, url)
    most = int(rows.ipc_ids.max()) + 1
    if ipc is not None and not 1 <= ipc <= most:
        raise ConfigError(
            f"{url} does not hold so many images of a class", found=f"ipc={ipc}", expected=f"1 to {most}"
        )
    label_of = np.full(len(rows.class_names), -1)
    label_of[[rows.class_names.index(name) for name in names]] = np.arange(len(names))
    labels = label_of[rows.labels]
    kept = np.flatnonzero((labels >= 0) & (rows.ipc_ids < (most if ipc is None else ipc)))
    kept = kept[np.lexsort((rows.ipc_ids[kept], labels[kept]))]
    return ImageRows(rows.images[kept], labels[kept], rows.ipc_ids[kept], names)


def _refuse_other_names(known: Sequence[str], names: Sequence[str], url: str) -> None:
    if not names or len(set(names)) < len(names):
        raise ConfigError("a part of a set has classes, each once", found=", ".join(names) or "none")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"{url} has no class '{name}'",
                expected=", ".join(known[:5]) + (", ..." if len(known) > 5 else ""),
                next=f"did you mean '{near[0]}'?" if near else None,
            )
