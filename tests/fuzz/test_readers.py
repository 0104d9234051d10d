"""Damaged and hostile bytes: each reader gives what they say or refuses them by name, and nothing else."""

from __future__ import annotations

import os
import resource
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edc_ray.errors import EdcRayError
from tests.fuzz.mutations import damaged, with_another_value
from tests.fuzz.readers import NAME, READERS

CORPUS = sorted(path for path in Path(__file__).with_name("corpus").rglob("*") if path.is_file())
EXAMPLES = int(os.environ.get("EDC_RAY_FUZZ_EXAMPLES", "25"))
MAX_KIB = 300 * 2**10


def check(name: str, data: bytes) -> None:
    """What must hold of any bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow and zipfile warn of some damage
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            READERS[name].read(data)
        except EdcRayError as error:
            told = str(error)
        else:
            told = NAME
    assert NAME in told or name == "config"  # whose callers name the file
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_KIB


def fuzzed(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much),
    )


@pytest.mark.parametrize("name", READERS)
def test_a_whole_file_is_read(name: str) -> None:
    reader = READERS[name]
    assert reader.read(reader.whole()) is not None


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_by_name(name: str) -> None:
    _check_examples(name, damaged(READERS[name].whole()), EXAMPLES)


@pytest.mark.nightly
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_read_or_refused_by_name(name: str) -> None:
    _check_examples(name, damaged(READERS[name].whole()), 100 * EXAMPLES)


@pytest.mark.parametrize("name", ["record", "manifest"])
def test_json_with_a_value_of_another_kind_is_read_or_refused_by_name(name: str) -> None:
    _check_examples(name, with_another_value(READERS[name].whole()), 8 * EXAMPLES)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_fuzzing_found_is_read_or_refused_by_name(path: Path) -> None:
    check(path.parent.name, path.read_bytes())


def _check_examples(name: str, data: st.SearchStrategy[bytes], examples: int) -> None:
    @fuzzed(examples)
    @given(data)
    def each(changed: bytes) -> None:
        check(name, changed)

    each()
