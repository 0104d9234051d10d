from __future__ import annotations

from typing import Any

import pytest

from edc_ray.errors import ConfigError
from edc_ray.sharing.export.options import FORMATS, ExportOptions, Format, check_options


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_not_asked_for_fits_every_format(format: Format) -> None:
    check_options(ExportOptions(format))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"format": "rded", "batch_size": 4}, "--batch-size has no effect on the format rded"),
        ({"format": "webdataset", "network_names": False}, "--no-network-names has no effect"),
        ({"format": "official", "license": "other"}, "--license has no effect on the format official"),
        ({"format": "imagefolder", "shard_bytes": 5}, "--shard-mb has no effect on the format imagefolder"),
        ({"format": "webdataset", "parts": ["labels"]}, "format webdataset holds only images"),
        ({"format": "huggingface", "parts": ["statistics"]}, "holds only images and labels"),
        ({"format": "huggingface", "parts": ["labels"]}, "labels without their images"),
        ({"format": "huggingface", "license": "a: b\n---"}, "the licence is not an identifier"),
    ],
)
def test_what_a_format_has_no_place_for_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        check_options(ExportOptions(**options))
