"""Views as stored rows: nothing is lost on the way there and back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from edc_ray.artifacts.tables.codec import table_from_bytes, table_to_bytes
from edc_ray.artifacts.tables.schema import build_labels_table, read_labels_table
from edc_ray.core.views.views import Mix, ViewSettings, draw_epoch_views
from edc_ray.data.condensed.label_rows import places_of, rows_of_views, views_of_rows
from edc_ray.errors import ArtifactError

SLOTS = np.array([(label, ipc_id) for label in (2, 0, 1) for ipc_id in (5, 3)])
LABELS, IPC_IDS = SLOTS.T
LOGITS = np.arange(18, dtype=np.float16).reshape(6, 3)


def _same(first: Any, second: Any) -> None:
    if is_dataclass(first):
        assert type(first) is type(second)
        for field in fields(first):
            _same(getattr(first, field.name), getattr(second, field.name))
    else:
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("mix", ["cutmix", "mixup", "none"])
@pytest.mark.parametrize("extras", [{}, {"patch_shuffle": 3, "rand_augment": True}])
def test_views_are_the_same_after_a_journey_through_a_stored_table(mix: Mix, extras: dict[str, Any]) -> None:
    settings = ViewSettings(crop_scale=(0.2, 1.0), mix=mix, mix_group=4, **extras)
    views = draw_epoch_views(0, 7, [(int(a), int(b)) for a, b in SLOTS], 16, settings)
    rows = rows_of_views(7, views, LABELS, IPC_IDS, LOGITS)
    table = table_from_bytes(table_to_bytes(build_labels_table(rows, ["a", "b", "c"])), url="x")
    again = read_labels_table(table)
    _same(views_of_rows(again, places_of(LABELS, IPC_IDS)), views)
    np.testing.assert_array_equal(again.logits, LOGITS)
    assert again.epoch.tolist() == [7] * 6


def test_rows_state_their_own_image_and_that_of_their_partner() -> None:
    views = draw_epoch_views(0, 0, [(int(a), int(b)) for a, b in SLOTS], 16, ViewSettings(mix_group=6))
    rows = rows_of_views(0, views, LABELS, IPC_IDS, LOGITS)
    own = SLOTS[views.image]
    np.testing.assert_array_equal(np.stack([rows.label, rows.ipc_id], 1), own)
    partners = np.stack([rows.partner_label, rows.partner_ipc_id], 1)
    np.testing.assert_array_equal(partners, own[views.partner])
    assert (partners != own).any()


def test_rows_that_are_mixed_in_several_ways_are_refused() -> None:
    views = draw_epoch_views(0, 0, [(int(a), int(b)) for a, b in SLOTS], 16, ViewSettings(mix_group=6))
    rows = rows_of_views(0, views, LABELS, IPC_IDS, LOGITS)
    mixed = replace(rows, mix=np.array(["cutmix"] * 5 + ["none"]))
    with pytest.raises(ArtifactError, match="mixed in several ways"):
        views_of_rows(mixed, places_of(LABELS, IPC_IDS))
