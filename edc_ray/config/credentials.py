"""Secrets that a config could hold by mistake: a config is stored with its run, shown and logged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from edc_ray.errors import ConfigError

_CREDENTIAL_WORDS = {"key", "auth", "authorization", "passphrase", "pwd", "sas", "pat"}
_CREDENTIAL_PARTS = ("secret", "token", "passw", "credential", "apikey", "accesskey", "connectionstring")
# Here a container stands where other URLs have a user: abfss://container@account.dfs.core.windows.net
_CONTAINER_SCHEMES = {"abfs", "abfss", "wasb", "wasbs"}
# A password may hold slashes, as keys of AWS do; digits before a slash are a port.
_PASSWORD = re.compile(r"://[^/@]*:(?!\d*(/|$))[^@]*@")
_USER = re.compile(r"([a-z0-9+.-]+)://[^/@]*@", re.IGNORECASE)
# A question mark is also a wildcard of file names: img_?.png.
_QUERY = re.compile(r"\?[^/=&]*[=&]|https?://[^?]*\?|\?[^/*?.\[\]]{8,}$", re.IGNORECASE)


def looks_like_credential(name: str) -> bool:
    """Whether a storage option is a secret by its name."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower())
    joined = "".join(words)
    return not _CREDENTIAL_WORDS.isdisjoint(words) or any(part in joined for part in _CREDENTIAL_PARTS)


def holds_secret(text: str, *, may_be_pattern: bool = False) -> bool:
    """Whether a text has a URL with a user, a password or a query; `may_be_pattern`: ? may be a wildcard."""
    if "://" not in text:
        return False
    users = (scheme.lower() for scheme in _USER.findall(text))
    if _PASSWORD.search(text) or any(scheme not in _CONTAINER_SCHEMES for scheme in users):
        return True
    query = text[text.index("://") :].partition("?")[2]
    if may_be_pattern:
        return bool(_QUERY.search(text)) or looks_like_credential(query.partition("/")[0])
    return "?" in text


def secret_names(options: Mapping[Any, Any]) -> list[str]:
    """Options that are secrets by their name, or URLs with a secret; inner options by dotted names."""
    names = []
    for name, value in options.items():
        if looks_like_credential(str(name)) or (isinstance(value, str) and holds_secret(value)):
            names.append(str(name))
        elif isinstance(value, Mapping):
            names += [f"{name}.{inner}" for inner in secret_names(value)]
    return names


def secret_found(problem: str, expected: str) -> ConfigError:
    """The error for a secret. It passes through pydantic, whose own error would quote the value."""
    return ConfigError(
        f"{problem}, and a config is stored with its run",
        expected=expected,
        next="remove it: credentials come from the environment or the identity of each node",
    )


def _without_secret(url: str) -> str:
    if holds_secret(url, may_be_pattern=True):
        raise secret_found("a URL holds a password or a signature", "a plain URL")
    return url


PlainUrl = Annotated[str, AfterValidator(_without_secret)]
"""A URL without a user, a password or a signed query."""
