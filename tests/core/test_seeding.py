from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edc_ray.core.seeding import (
    Draws,
    draws,
    draws_of_each,
    philox4x32,
    prefetch,
    uniform_rows,
    word_rows,
)

# Known answers published with Random123 (kat_vectors, philox4x32 10): counter, key, result.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]

# What the code gave when it was written. If a number changes, every stored run changes.
FIRST_WORDS = ["0xeb56a07c5b271490", "0x23513486e9aa8d12", "0xb72c7778ff81d10b"]
NEXT_INTEGERS = [273, 368, 77, 351]
NEXT_PERMUTATION = [4, 3, 1, 5, 2, 0]


def hex_words(text: str) -> np.ndarray:
    return np.array([[int(word, 16) for word in text.split()]], dtype=np.uint64)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_known_answers(counter, key, expected):
    assert philox4x32(hex_words(counter), hex_words(key)).tolist() == hex_words(expected).tolist()


def test_a_stream_gives_the_numbers_it_always_gave():
    stream = draws(42, "relabel", 7, 3, "epoch", 0)
    assert [hex(word) for word in stream.words(3)] == FIRST_WORDS
    assert stream.integers(1000, 4).tolist() == NEXT_INTEGERS
    assert stream.permutation(6).tolist() == NEXT_PERMUTATION


@given(st.lists(st.integers(0, 40), max_size=8))
@settings(max_examples=30, deadline=None)
def test_words_do_not_depend_on_the_portions_in_which_they_are_taken(portions):
    taken = draws(0, "portions")
    words = np.concatenate([taken.words(count) for count in portions] + [taken.words(1)])
    assert words.tolist() == draws(0, "portions").words(sum(portions) + 1).tolist()


@pytest.mark.parametrize("used", [0, 1, 31, 33])
def test_prefetching_changes_no_draw(used):
    streams = [draws(1, name) for name in ("a", "b", "c")]
    streams[1].words(used)
    prefetch(streams, 50)
    plain = [draws(1, name) for name in ("a", "b", "c")]
    plain[1].words(used)
    for fetched, other in zip(streams, plain, strict=True):
        assert fetched.words(70).tolist() == other.words(70).tolist()


def test_different_keys_give_different_streams():
    keys = [
        (0,),
        (1,),
        (-1,),
        (0, 1),
        (0, "1"),
        (0, 1, 2),
        (0, 12),
        (0, "a", "b"),
        (0, "ab"),
        (0, "a", "b", ""),
    ]
    firsts = {int(draws(*key).words(1)[0]) for key in keys}
    assert len(firsts) == len(keys)


def test_numpy_integers_are_the_same_names_as_python_ones():
    assert draws(0, int(np.int64(5))).words(1) == draws(np.int64(0), np.int64(5)).words(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [1.5, None, b"x"])
def test_a_name_that_is_neither_integer_nor_string_is_refused(name):
    with pytest.raises(TypeError):
        draws(0, name)


def test_a_stream_name_of_another_length_is_refused():
    with pytest.raises(ValueError, match="16 bytes"):
        Draws(b"short")


def test_uniform_draws_lie_in_the_half_open_interval_and_are_spread_evenly():
    values = draws(3, "uniform").uniform(200, 100)
    assert values.shape == (200, 100)
    assert values.min() >= 0
    assert values.max() < 1
    counts, _ = np.histogram(values, bins=16, range=(0, 1))
    assert np.abs(counts - values.size / 16).max() < 5 * np.sqrt(values.size / 16)


@pytest.mark.parametrize("high", [1, 3, 2**32])
def test_integers_lie_below_high(high):
    values = draws(3, "integers").integers(high, 2000)
    assert values.dtype == np.int64
    assert values.min() >= 0
    assert values.max() < high
    assert set(values.tolist()) == set(range(high)) if high < 10 else len(set(values.tolist())) > 1900


@pytest.mark.parametrize("high", [0, -1, 2**32 + 1])
def test_integers_out_of_range_are_refused(high):
    with pytest.raises(ValueError, match="high"):
        draws(0).integers(high)


@pytest.mark.parametrize("n", [0, 1, 2, 17, 100])
def test_a_permutation_holds_every_position_once(n):
    assert sorted(draws(0, "order").permutation(n).tolist()) == list(range(n))


def test_normal_draws_have_the_moments_of_the_standard_normal():
    values = draws(5, "normal").normal(40001)
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02
    assert abs((values**3).mean()) < 0.05
    assert abs((values**4).mean() - 3) < 0.15


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.8, 0.8), (0.2, 0.2), (2.0, 5.0)])
def test_beta_draws_have_the_moments_of_the_distribution(a, b):
    stream = draws(6, "beta")
    values = np.array([stream.beta(a, b) for _ in range(3000)])
    variance = a * b / ((a + b) ** 2 * (a + b + 1))
    assert values.min() >= 0
    assert values.max() <= 1
    assert abs(values.mean() - a / (a + b)) < 4 * np.sqrt(variance / len(values))
    assert abs(values.var() / variance - 1) < 0.1


def test_beta_of_a_tiny_shape_is_a_number():
    stream = draws(6, "tiny")
    assert all(0 <= stream.beta(1e-4, 1e-4) <= 1 for _ in range(50))


def test_beta_of_a_shape_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="positive"):
        draws(0).beta(0.0, 1.0)


def test_seeds_for_torch_are_those_of_their_key_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (draws(0, name).torch_seed() for name in ("torch", "torch", "seed"))
    assert first == again != other
    assert all(0 <= seed < 2**63 for seed in (first, other))
    assert torch.equal(torch.get_rng_state(), before)


def test_streams_made_together_are_those_made_one_by_one():
    keys = [(label, ipc_id) for label in (0, 7, -2) for ipc_id in range(3)]
    together = draws_of_each(5, "views", 1, keys=keys)
    for stream, key in zip(together, keys, strict=True):
        assert stream.words(40).tolist() == draws(5, "views", 1, *key).words(40).tolist()
    with pytest.raises(TypeError):
        draws_of_each(5, keys=[(1.5,)])  # pyright: ignore[reportArgumentType]


def test_rows_of_words_and_uniforms_are_the_next_ones_of_each_stream():
    streams, alone = ([draws(2, i) for i in range(4)] for _ in range(2))
    streams[2].words(3)
    alone[2].words(3)
    for rows, take in ((word_rows, Draws.words), (uniform_rows, Draws.uniform)):
        assert rows(streams, 35).tolist() == [take(stream, 35).tolist() for stream in alone]
    assert word_rows([], 3).shape == (0, 3)
