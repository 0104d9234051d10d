from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edc_ray.config.credentials import holds_secret, looks_like_credential, secret_names

WITH_SECRET = [
    "https://host/x.parquet?X-Amz-Signature=0a1b&X-Amz-Date=2",
    "https://host/x.parquet?0a1b",
    "s3://bucket/x?token",
    "s3://bucket/x?versionId=3",
    "s3://bucket/x?0a1b2c3d4e5f",
    "s3://key:pass@bucket/x",
    "s3://key:with/slash@bucket/x",
    "https://token@host/x",
    "abfss://box:pass@account.dfs.x.net/x",
    "simplecache::https://me:pass@host/x",
    "simplecache::https://host/x?sig=1",
]
PATTERNS = ["s3://bucket/class?/*.png", "s3://bucket/img_???.png", "memory://train-0000?-of-00002.parquet"]
WITHOUT_SECRET = [
    "/local/img_?.png", "/local/a@b?c=d", "sklearn:digits", "s3://bucket/x/*.parquet", "http://host:9000/a@2x",
    "abfss://box@account.dfs.x.net/x", "file:///home/me/images", "s3://bucket/label=3/*.png",
]  # fmt: skip


@pytest.mark.parametrize("url", WITH_SECRET)
def test_a_url_with_a_password_or_a_query_holds_a_secret(url: str) -> None:
    assert holds_secret(url)
    assert holds_secret(url, may_be_pattern=True)


@pytest.mark.parametrize("url", WITHOUT_SECRET)
def test_a_plain_url_or_path_holds_none(url: str) -> None:
    assert not holds_secret(url)
    assert not holds_secret(url, may_be_pattern=True)


@pytest.mark.parametrize("url", PATTERNS)
def test_the_question_mark_of_a_pattern_is_no_query(url: str) -> None:
    assert not holds_secret(url, may_be_pattern=True)
    assert holds_secret(url)


def test_secrets_are_found_in_options_inside_options() -> None:
    options = {"anon": True, "a": {"b": {"token": 1}, "url": "http://me:x@host"}, "size": 3, "key": {"x": 1}}
    assert secret_names(options) == ["a.b.token", "a.url", "key"]


@given(
    st.sampled_from(["secret", "token", "password"]),
    st.text("abcXYZ_.-", max_size=6),
    st.text("ab_", max_size=6),
)
def test_a_credential_word_is_seen_inside_any_name(word: str, before: str, after: str) -> None:
    assert looks_like_credential(before + word + after)
