"""Where work runs and how much of it at once. Only threads_per_unit changes a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator

from edc_ray.config.credentials import holds_secret, secret_found, secret_names
from edc_ray.config.section import Section
from edc_ray.errors import ConfigError


class ClusterConfig(Section):
    """Ray session and actors."""

    address: str | None = Field(
        default=None,
        description="local (embedded), auto (the cluster this job runs in), HOST:PORT, none (no Ray). "
        "None: without Ray if one worker does the run well, else auto in a Ray job and local elsewhere",
    )
    num_actors: int | None = Field(default=None, ge=1, description="None: as many as the cluster holds")
    min_actors: int = Field(default=1, ge=1, description="with an autoscaler, work starts with so many")
    autoscaling: bool = Field(
        default=False, description="the cluster grows on demand: more actors than it has now may be asked for"
    )
    cpus_per_actor: float = Field(default=1.0, gt=0)
    gpus_per_actor: float | None = Field(default=None, ge=0, description="None: 1 if there are any, else 0")
    trainings_per_actor: Literal["auto"] | Annotated[int, Field(ge=1, le=8)] = Field(
        default="auto",
        description="observers or students that one process trains at the same time, up to 8. auto: on CUDA "
        "as many as its memory holds, elsewhere 1. The results are the same",
    )
    threads_per_unit: int = Field(default=1, ge=1, description="CPU threads of a unit, equal in every mode")
    wait_seconds: float = Field(
        default=3600.0, gt=0, description="how long work may wait for room for an actor, until the run ends"
    )
    retries: int = Field(default=2, ge=0, description="further tries of a unit whose actor died")
    shared_filesystem: bool = Field(default=False, description="file:// is the same folder on every node")


WhenBusy = Literal["refuse", "wait", "share"]


class RunSection(Section):
    """Name of a run: its folder under storage.root."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    when_busy: WhenBusy = Field(
        default="refuse",
        description="while another edc-ray works in the folder: refuse, wait for its end, or share the "
        "folder and do the same units",
    )


class StorageConfig(Section):
    """Where artifacts go. Credentials come from the node's environment, never from here."""

    root: str | None = Field(default=None, description="folder or fsspec URL; None: ./runs; a job needs one")
    options: dict[str, JsonValue] = Field(default_factory=dict, description="non-secret fsspec options")
    patience_seconds: float = Field(
        default=600.0, ge=0, description="how long a result waits while storage fails, such as a full disk"
    )

    @field_validator("root")
    @classmethod
    def _holds_no_secret(cls, root: str | None) -> str | None:
        if root is not None and holds_secret(root):
            raise secret_found("storage.root holds a password or a signature", "a plain URL")
        return root

    @field_validator("options", mode="before")
    @classmethod
    def _hold_no_credentials(cls, options: Any) -> Any:
        if not isinstance(options, Mapping):
            raise ConfigError("config field 'storage.options' cannot be used", expected="option: value pairs")
        if refused := secret_names(options):
            problem = f"storage.options.{refused[0]} looks like a credential"
            raise secret_found(problem, "options that anyone may read, such as endpoint_url or anon")
        return options


class TrackingConfig(Section):
    """Curves beside events.jsonl."""

    tensorboard: bool = True
    progress: Literal["auto", "live", "plain", "none"] = "auto"
