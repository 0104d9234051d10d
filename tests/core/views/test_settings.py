from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from edc_ray.core.views.settings import RelabelSettings
from edc_ray.core.views.views import ViewSettings


@pytest.mark.parametrize(
    "wrong",
    [{"crop_scale": (0.0, 1.0)}, {"mix": "paste"}, {"mix_alpha": 0}, {"mix_group": 0}, {"patch_shuffle": 0}],
    ids=str,
)
def test_values_that_no_view_can_have_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        RelabelSettings(**wrong)


def test_views_add_nothing_to_the_settings_of_relabel_but_the_chance_of_a_mirrored_view() -> None:
    assert set(ViewSettings.model_fields) - set(RelabelSettings.model_fields) == {"flip_probability"}
