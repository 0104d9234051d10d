from __future__ import annotations

import pytest

from edc_ray.core.labels.components import ComponentsCodec
from edc_ray.core.labels.quantised import QuantisedCodec
from edc_ray.core.labels.specification import label_codec
from edc_ray.core.labels.top import TopCodec
from edc_ray.errors import ConfigError


@pytest.mark.parametrize(
    ("spec", "codec"),
    [
        ("q4", QuantisedCodec(4)),
        ("pca96", ComponentsCodec(96)),
        ("top16", TopCodec(16)),
        ("top16_q6", TopCodec(16, 6)),
        ("top16t20", TopCodec(16, None, 20.0)),
        ("pca64_top4t20_q5", TopCodec(4, 5, 20.0, ComponentsCodec(64))),
        ("pca64_top4", TopCodec(4, None, 1.0, ComponentsCodec(64))),
    ],
)
def test_a_specification_names_a_codec_and_the_codec_its_specification(spec: str, codec: object) -> None:
    assert label_codec(spec) == codec
    assert label_codec(spec).name == spec


def test_half_precision_is_named() -> None:
    assert label_codec("fp16").name == "fp16"


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("", "'' is not a label codec"),
        ("fp32", "Did you mean 'fp16'"),
        ("top", "not a label codec"),
        ("top16q6", "Did you mean 'top16_q6'"),
        ("tpo16", "Did you mean 'top16'"),
        ("q1", "2 to 8 bits"),
        ("q16", "2 to 8 bits"),
        ("_q4", "not a label codec"),
        ("pca64_q4", "codec itself divides"),
        ("pca64_", "not a label codec"),
        ("pca64top4", "not a label codec"),
        ("top0", "not a label codec"),
        ("pca0", "not a label codec"),
        ("top99999999", "not a label codec"),
        ("q4 ", "not a label codec"),
    ],
)
def test_what_names_no_codec_is_refused_with_the_forms_there_are(spec: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        label_codec(spec)
    assert "pca64_top4_q5" in str(caught.value)
