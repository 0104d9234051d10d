"""Random draws as a pure function of a key.

Bits come from Philox4x32-10, a counter-based generator that is written out here, because neither torch nor
numpy promises the same streams in all releases. A key is (root seed, stage, class, ipc_id, iteration or
epoch, ...), never a rank or a worker: it does not matter where a draw is made.

A stream is a sequence of 64-bit words. Every draw takes the next words; each method says how many.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Sequence

import numpy as np

_MASK = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_ROUNDS = 10
_FIRST_FILL = 32  # words; one view of an image takes fewer


def philox4x32(counter_N4: np.ndarray, key_N2: np.ndarray) -> np.ndarray:
    """Philox4x32-10 of each counter [N, 4] under its key [N, 2] or [1, 2]: uint64 [N, 4].

    All entries are uint64 below 2**32.

    Source:
        Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011.
    """
    c0, c1, c2, c3 = (counter_N4[:, i] for i in range(4))
    k0, k1 = key_N2[:, 0], key_N2[:, 1]
    for _ in range(_ROUNDS):
        low, high = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (high >> _HALF) ^ c1 ^ k0, high & _MASK, (low >> _HALF) ^ c3 ^ k1, low & _MASK
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return np.stack([c0, c1, c2, c3], axis=1)


class Draws:
    """One stream of random draws, named by 16 bytes: the same name gives the same draws in the same order."""

    def __init__(self, digest: bytes) -> None:
        if len(digest) != 16:
            raise ValueError(f"a stream is named by 16 bytes, got {len(digest)}")
        self._name = np.frombuffer(digest, dtype="<u4").astype(np.uint64)
        self._block = 0
        self._words = np.empty(0, dtype=np.uint64)

    def words(self, count: int) -> np.ndarray:
        """The next `count` words of the stream, uint64 [count]."""
        if count > len(self._words):
            prefetch([self], max(count, _FIRST_FILL))
        taken, self._words = self._words[:count], self._words[count:]
        return taken

    def uniform(self, *shape: int) -> np.ndarray:
        """float64 in [0, 1) with 53 random bits. Takes one word each."""
        return _uniforms(self.words(math.prod(shape))).reshape(shape)

    def integers(self, high: int, *shape: int) -> np.ndarray:
        """int64 in [0, high), 1 <= high <= 2**32. Takes one word each; the bias is below high * 2**-53."""
        if not 1 <= high <= 2**32:
            raise ValueError(f"high must be in [1, 2**32], got {high}")
        return np.floor(self.uniform(*shape) * high).astype(np.int64)

    def permutation(self, n: int) -> np.ndarray:
        """A random order of 0..n-1, int64 [n]. Takes n words."""
        return np.argsort(self.words(n), kind="stable").astype(np.int64)

    def normal(self, *shape: int) -> np.ndarray:
        """float64 of the standard normal distribution (Box-Muller). Takes two words for each pair begun.

        The logarithm and the cosine are numpy's: another processor may give another last bit.
        """
        count = math.prod(shape)
        pairs_P2 = self.uniform((count + 1) // 2, 2)
        radius_P = np.sqrt(-2.0 * np.log1p(-pairs_P2[:, 0]))  # 1 - u is never 0
        angle_P = 2.0 * np.pi * pairs_P2[:, 1]
        both = np.stack([radius_P * np.cos(angle_P), radius_P * np.sin(angle_P)], axis=1)
        return both.reshape(-1)[:count].reshape(shape)

    def beta(self, a: float, b: float) -> float:
        """One draw of Beta(a, b), a, b > 0. Takes one word if a = b = 1, else what its rejections need."""
        if a <= 0 or b <= 0:
            raise ValueError(f"a and b must be positive, got {a} and {b}")
        if a == b == 1:
            return float(self.uniform())
        log_x, log_y = self._log_gamma_draw(a), self._log_gamma_draw(b)
        return 1.0 / (1.0 + math.exp(min(log_y - log_x, 700.0)))

    def torch_seed(self) -> int:
        """63 random bits, for an interface that takes a seed. Takes one word."""
        return int(self.words(1)[0] >> np.uint64(1))

    def _log_gamma_draw(self, shape: float) -> float:
        """Logarithm of a Gamma(shape) draw: Marsaglia and Tsang 2000. Logarithms survive tiny shapes."""
        boost = 0.0
        if shape < 1:
            boost = math.log1p(-float(self.uniform())) / shape
            shape += 1
        d = shape - 1 / 3
        while True:
            x, u = float(self.normal(1)[0]), 1.0 - float(self.uniform())
            v = (1 + x / math.sqrt(9 * d)) ** 3
            if v > 0 and math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v):
                return math.log(d * v) + boost


def draws(seed: int, *names: str | int) -> Draws:
    """The stream of a key: the run's root seed, and what the draw is for, such as "relabel", class, epoch.

    1 and "1" are different names; a TypeError if a name is neither an integer nor a string.
    """
    encoded = b"".join(_encode(name) for name in (seed, *names))
    return Draws(hashlib.blake2b(encoded, digest_size=16).digest())


def draws_of_each(seed: int, *names: str | int, keys: Sequence[tuple[int, ...]]) -> list[Draws]:
    """`draws(seed, *names, *key)` of each key, at less cost."""
    shared = hashlib.blake2b(b"".join(_encode(name) for name in (seed, *names)), digest_size=16)
    encoded = {name: _encode(name) for key in keys for name in key}
    streams = []
    for key in keys:
        own = shared.copy()
        own.update(b"".join([encoded[name] for name in key]))
        streams.append(Draws(own.digest()))
    return streams


def word_rows(streams: Sequence[Draws], count: int) -> np.ndarray:
    """The next `count` words of each stream, uint64 [streams, count]."""
    prefetch(streams, count)
    return np.array([stream.words(count) for stream in streams], np.uint64).reshape(len(streams), count)


def uniform_rows(streams: Sequence[Draws], count: int) -> np.ndarray:
    """`uniform(count)` of each stream, float64 [streams, count]."""
    return _uniforms(word_rows(streams, count))


def prefetch(streams: Sequence[Draws], num_words: int) -> None:
    """Compute the next `num_words` words of many streams in one pass. Changes speed, never draws."""
    missing = [max(0, num_words - len(stream._words)) for stream in streams]
    num_blocks = (max(missing, default=0) + 1) // 2
    if num_blocks == 0:
        return
    first_S = np.array([stream._block for stream in streams], dtype=np.uint64)
    block_SN = first_S[:, None] + np.arange(num_blocks, dtype=np.uint64)
    name_S14 = np.stack([stream._name for stream in streams])[:, None, :]
    counter_SN4 = np.empty((len(streams), num_blocks, 4), dtype=np.uint64)
    counter_SN4[..., 0], counter_SN4[..., 1] = block_SN & _MASK, block_SN >> _HALF
    counter_SN4[..., 2:] = name_S14[..., 2:]
    key_SN2 = np.broadcast_to(name_S14[..., :2], (len(streams), num_blocks, 2))
    halves = philox4x32(counter_SN4.reshape(-1, 4), key_SN2.reshape(-1, 2)).reshape(len(streams), -1, 2)
    for stream, words in zip(streams, halves[..., 0] | (halves[..., 1] << _HALF), strict=True):
        stream._words = np.concatenate([stream._words, words])
        stream._block += num_blocks


def _uniforms(words: np.ndarray) -> np.ndarray:
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _encode(name: str | int) -> bytes:
    """Type, length, bytes: no two keys share an encoding."""
    if isinstance(name, str):
        tag, content = b"s", name.encode()
    else:
        tag, content = b"i", str(operator.index(name)).encode()
    return tag + len(content).to_bytes(8, "little") + content
