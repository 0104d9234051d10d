from __future__ import annotations

from typing import Any

import pytest

from edc_ray.core.settings import CropScale, Settings


class View(Settings):
    scale: CropScale = (0.5, 1.0)
    weight: float = 1.0


@pytest.mark.parametrize(
    "fields", [{"scale": (0.0, 1.0)}, {"scale": (0.6, 0.5)}, {"weight": float("nan")}, {"wieght": 1.0}]
)
def test_a_wrong_value_and_an_unknown_field_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        View(**fields)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        View().weight = 2.0  # type: ignore[misc]
