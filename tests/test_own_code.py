import os.path

import pytest

from edc_ray.errors import ConfigError
from edc_ray.own_code import names_own_code, own_function


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mine:images", True),
        ("a.b_c:_d", True),
        ("s3://a/b", False),
        ("/folder", False),
        ("a:b.c", False),
        ("a b:c", False),
        ("edc", False),
    ],
)
def test_a_function_is_told_from_a_url_and_a_folder(name: str, expected: bool) -> None:
    assert names_own_code(name) == expected


def test_the_function_is_found() -> None:
    assert own_function("method", "os.path:join", expected="x") is os.path.join


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_anywhere:f", r"network '.*cannot be imported(.|\n)*an f(.|\n)*PYTHONPATH"),
        ("os.path:jion", r"no function 'jion'(.|\n)*expected: an f(.|\n)*did you mean 'os.path:join'"),
        ("os.path:sep", "no function 'sep'"),
    ],
)
def test_a_function_that_is_not_there_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        own_function("network", name, expected="an f")
