from __future__ import annotations

import pytest

from edc_ray.core.recover.settings import RecoverSettings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("drop_rate", 1.5),
        ("statistic_momentum", -0.1),
        ("class_weight", -1),
        ("iterations", 0),
        ("learning_rate", float("nan")),
        ("crop_scale", (0.5, 0.4)),
        ("iteration", 1),
    ],
)
def test_settings_refuse_values_out_of_range(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        RecoverSettings(**{field: value})  # pyright: ignore[reportArgumentType]


def test_settings_refuse_matching_against_nothing() -> None:
    with pytest.raises(ValueError, match="matching_weight=0"):
        RecoverSettings(global_weight=0, class_weight=0)
