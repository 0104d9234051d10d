"""Where work runs and how much of it at once. Nothing here changes a result but threads_per_unit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from edc_ray.config.section import Section
from edc_ray.errors import ConfigError

_CREDENTIAL_WORDS = {"key", "auth", "authorization", "passphrase", "pwd", "sas", "pat"}
_CREDENTIAL_PARTS = ("secret", "token", "passw", "credential", "apikey", "accesskey", "connectionstring")


class ClusterConfig(Section):
    """Ray session and actors."""

    address: str = Field(
        default="local", description="local (embedded), auto (the cluster this job runs in), none (no Ray)"
    )
    num_actors: int | None = Field(default=None, ge=1, description="None: as many as the cluster holds")
    min_actors: int = Field(default=1, ge=1, description="with an autoscaler, work starts with so many")
    autoscaling: bool = Field(
        default=False, description="the cluster grows on demand: more actors than it has now may be asked for"
    )
    cpus_per_actor: float = Field(default=1.0, gt=0)
    gpus_per_actor: float | None = Field(
        default=None, ge=0, description="None: 1 where the cluster has GPUs, else 0"
    )
    threads_per_unit: int = Field(
        default=1, ge=1, description="CPU threads of one unit, the same in every mode"
    )
    retries: int = Field(default=2, ge=0, description="further tries of a unit whose actor died")
    shared_filesystem: bool = Field(default=False, description="file:// is the same folder on every node")


class RunSection(Section):
    """Name of a run: its folder under storage.root."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


class StorageConfig(Section):
    """Where artifacts go. Credentials never stand here; they come from the node's environment."""

    root: str | None = Field(
        default=None, description="folder or fsspec URL; None: ./runs, except in a submitted job"
    )
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="non-secret fsspec options"
    )

    @field_validator("options", mode="before")
    @classmethod
    def _holds_no_credentials(cls, options: Any) -> Any:
        # ConfigError passes through pydantic, whose own error would quote the value.
        if not isinstance(options, Mapping):
            raise ConfigError("config field 'storage.options' cannot be used", expected="option: value pairs")
        if refused := [name for name in _names_in(options) if looks_like_credential(name)]:
            raise ConfigError(
                f"storage.options.{refused[0]} looks like a credential, and a config is stored with its run",
                expected="options that anyone may read, such as endpoint_url or anon",
                next="remove it: credentials come from the environment or the identity of each node",
            )
        return options


class TrackingConfig(Section):
    """Curves beside events.jsonl."""

    tensorboard: bool = True
    progress: Literal["auto", "live", "plain", "none"] = "auto"


def looks_like_credential(name: str) -> bool:
    """Whether the name of a storage option says that its value is a secret."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower())
    return bool(_CREDENTIAL_WORDS.intersection(words)) or any(
        part in "".join(words) for part in _CREDENTIAL_PARTS
    )


def _names_in(options: Mapping[Any, Any]) -> list[str]:
    """Names of all options, those inside other options with dots."""
    names = []
    for name, value in options.items():
        names.append(str(name))
        if isinstance(value, Mapping):
            names += [f"{name}.{inner}" for inner in _names_in(value)]
    return names
