from __future__ import annotations

import pytest

from edc_ray.digests import digest_of


def test_a_digest_depends_on_values_and_not_on_the_order_of_names() -> None:
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert len({digest_of(value) for value in ({"a": 1}, {"a": "1"}, {"a": 1.5}, {"b": 1}, [1], [[1]])}) == 6
    assert len(digest_of(None)) == 16


def test_a_digest_of_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of({"a": float("nan")})
