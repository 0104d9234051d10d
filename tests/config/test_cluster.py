from __future__ import annotations

import traceback
from typing import Any

import pytest
from pydantic import ValidationError

from edc_ray.config.cluster import ClusterConfig, RunSection, StorageConfig, TrackingConfig
from edc_ray.config.load import load_recipe, load_yaml, to_yaml
from edc_ray.errors import ConfigError

SECRET = "hunter2-never-shown"
CREDENTIALS = [
    "key", "secret", "token", "password", "KEY", "access_key", "aws_access_key_id", "account_key",
    "secretAccessKey", "accountKey", "aws_session_token", "sas_token", "client_secret", "connection_string",
    "auth", "passphrase", "credential", "credentials", "apiKey", "api_key", "private_key",
]  # fmt: skip
HARMLESS = [
    "endpoint_url", "anon", "use_ssl", "region", "region_name", "profile", "account_name", "project",
    "requester_pays", "default_block_size", "auto_mkdir", "keyboard", "author", "monkey",
    "use_listings_cache",
]  # fmt: skip


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_storage_option_named_as_a_credential_is_refused_and_its_value_never_shown(name: str) -> None:
    with pytest.raises(ConfigError, match=f"storage.options.{name} looks like a credential") as caught:
        load_recipe("digits", [f"storage.options.{name}={SECRET}"])
    assert "credentials come from the environment" in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", HARMLESS)
def test_a_storage_option_that_is_no_credential_is_kept(name: str) -> None:
    config = load_recipe("digits", [f"storage.options.{name}=west"])
    assert config.storage.options == {name: "west"}
    assert load_yaml(to_yaml(config)) == config


@pytest.mark.parametrize(
    "text",
    [
        f"storage.options={{client_kwargs: {{aws_secret_access_key: {SECRET}}}}}",
        f"storage.options={{anon: true, key: {SECRET}}}",
        f"storage.options.client_kwargs.token={SECRET}",
        f"storage.options.key=[{SECRET}]",
        f"storage.options=key:{SECRET}",
        f"storage.options.secret=[{SECRET}",
        f"storage.options.endpoint_url=https://me:{SECRET}@host",
        f"storage.options={{proxies: {{https: 'https://me:{SECRET}@host'}}}}",
    ],
)
def test_a_credential_in_any_shape_is_refused_and_its_value_never_shown(text: str) -> None:
    with pytest.raises(ConfigError, match=r"storage\.options") as caught:
        load_recipe("digits", [text])
    assert SECRET not in str(caught.value)


def test_a_credential_in_a_yaml_file_is_refused_before_any_other_problem_is_told() -> None:
    text = to_yaml(load_recipe("digits")).replace("options: {}", f"options: {{password: {SECRET}}}")
    with pytest.raises(ConfigError, match="looks like a credential") as caught:
        load_yaml(text)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "root",
    [
        f"https://host/runs?X-Amz-Signature={SECRET}",
        f"s3://bucket/runs?{SECRET}",
        f"s3://me:{SECRET}@bucket/runs",
        f"s3://{SECRET}@bucket/runs",
    ],
)
def test_a_storage_root_with_a_secret_is_refused_and_not_shown(root: str) -> None:
    as_yaml = to_yaml(load_recipe("digits")).replace("root: null", f"root: {root}")
    for load in (lambda: load_recipe("digits", [f"storage.root={root}"]), lambda: load_yaml(as_yaml)):
        with pytest.raises(ConfigError, match=r"storage\.root holds a password or a signature") as caught:
            load()
        assert "credentials come from the environment" in str(caught.value)
        assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("root", ["/runs/what?", "s3://bucket/runs", "abfss://box@account.dfs.x.net/runs"])
def test_a_storage_root_without_a_secret_is_kept(root: str) -> None:
    assert load_recipe("digits", [f"storage.root={root}"]).storage.root == root


def test_options_may_hold_texts_numbers_and_switches() -> None:
    options: dict[str, Any] = {"endpoint_url": "http://x", "size": 5, "ratio": 0.5, "anon": True}
    assert StorageConfig.model_validate({"options": options}).options == options


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_actors", 0),
        ("min_actors", 0),
        ("cpus_per_actor", 0),
        ("gpus_per_actor", -0.5),
        ("threads_per_unit", 0),
        ("retries", -1),
    ],
)
def test_sizes_that_no_cluster_has_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        ClusterConfig.model_validate({field: value})


@pytest.mark.parametrize("name", ["a/b", "..", "", ".hidden", "a b", "a\\b", "-x"])
def test_a_run_name_that_is_no_single_folder_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        RunSection(name=name)


def test_an_unknown_style_of_progress_is_refused() -> None:
    with pytest.raises(ValidationError, match="progress"):
        TrackingConfig.model_validate({"progress": "loud"})
