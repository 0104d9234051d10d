from __future__ import annotations

import fsspec.config
import pytest

from edc_ray.artifacts.storage.redaction import shown_url, without_secrets

URL = "s3://bucket/run"


def test_what_the_environment_the_options_and_fsspecs_config_hold_is_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from/the+environment")
    monkeypatch.setitem(
        fsspec.config.conf, "s3", {"secret": "from-the-config", "endpoint_url": "http://here"}
    )
    options = {
        "key": "AKIAEXAMPLE",
        "client_kwargs": {"aws_session_token": "from-within", "region": "eu"},
    }
    text = "from/the+environment from-the-config AKIAEXAMPLE from-within http://here eu"
    assert without_secrets(text, URL, options) == "*** *** *** *** http://here eu"


def test_a_secret_that_holds_another_is_hidden_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "short")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "short-and-more")
    assert without_secrets("short-and-more short", URL, {}) == "*** ***"


def test_the_signature_of_a_request_is_hidden() -> None:
    text = "GET /a?X-Amz-Credential=AKIA%2Fx&X-Amz-Signature=0123abcd&x=1 Credential=AKIA/2026, Signature=ff"
    assert without_secrets(text, URL, {}) == (
        "GET /a?X-Amz-Credential=***&X-Amz-Signature=***&x=1 Credential=***, Signature=***"
    )


def test_words_stay_where_nothing_is_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
    text = "PermissionError: Access Denied to s3://bucket/run/key.parquet"
    assert without_secrets(text, URL, {"key": "", "token": "s3"}) == text


def test_shown_addresses_hold_no_secrets() -> None:
    assert shown_url("https://me:pw@host/x.parquet?sig=abc") == "https://host/x.parquet"
    assert shown_url("/data/a?b/*.png") == "/data/a?b/*.png"
