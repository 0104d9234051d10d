from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from edc_ray.config.credentials import PlainUrl
from edc_ray.config.load import load_recipe
from edc_ray.errors import ConfigError

FIELDS = ("dataset.train", "dataset.val", "statistics.source", "init.source", "relabel.source")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hidden@bucket/x",
        "https://host/x.parquet?sig=hidden",
        "https://host/x.parquet?hidden",
        "s3://bucket/x.parquet?hidden-token",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_shown(field: str, url: str) -> None:
    with pytest.raises(ConfigError, match="holds a password or a signature") as caught:
        load_recipe("digits", [f"{field}={url}"])
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://bucket/x", "a@b/c?d=e", "memory://x", "s3://bucket/class?/img_??.png"])
def test_a_url_without_one_is_left_as_it_is(url: str) -> None:
    assert TypeAdapter(PlainUrl).validate_python(url) == url
