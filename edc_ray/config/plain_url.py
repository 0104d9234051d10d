"""A URL as it may stand in a config, which is stored with its run: without credentials."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from edc_ray.config.credentials import holds_secret
from edc_ray.errors import ConfigError


def refuse_credentials(url: str) -> str:
    """The URL itself.

    Raises:
        ConfigError: it holds a user, a password or a signed query. It passes through pydantic, whose own
            error would quote the URL.
    """
    if holds_secret(url, may_be_pattern=True):
        raise ConfigError(
            "a URL holds a password or a signature, and a config is stored with its run",
            expected="a plain URL",
            next="remove it: credentials come from the environment or the identity of each node",
        )
    return url


PlainUrl = Annotated[str, AfterValidator(refuse_credentials)]
