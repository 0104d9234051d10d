"""Addresses and messages of storage libraries without secrets: they end up in logs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from fsspec.config import conf

_HIDDEN = "***"
_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CLIENT_SECRET",
)
_SECRET_OPTION = re.compile(r"key|secret|token|passw|credential|connection_string|auth", re.IGNORECASE)
# Parts of a signed request.
_SIGNATURE = re.compile(r"((?:Signature|Credential|AWSAccessKeyId|sig)=)[^&\s,'\"]+", re.IGNORECASE)
# A shorter value may be part of any word.
_SHORTEST = 4


def without_secrets(text: str, url: str, options: Mapping[str, Any]) -> str:
    """A text with every known secret replaced by ***.

    These are the credentials in the environment, in fsspec's configuration of the URL's protocol and in
    storage options, and the signatures of requests.
    """
    protocol = urlsplit(url).scheme
    known = {os.environ.get(name, "") for name in _ENVIRONMENT}
    known |= {*_secrets(options), *_secrets(conf.get(protocol, {}))}
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, _HIDDEN)
    return _SIGNATURE.sub(rf"\1{_HIDDEN}", text)


def shown_url(url: str) -> str:
    """The URL without a user's name and password, and without a query."""
    return re.sub(r"\?.*$", "", re.sub(r"//[^/@]*@", "//", url)) if "://" in url else url


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and _SECRET_OPTION.search(str(name)):
            yield value
