"""Small whole numbers and subsets of classes as packed bits. N rows, each of the same number of bytes.

The first number of a row is in the highest bits of its first byte. Zeros fill up the end of a row.
"""

from __future__ import annotations

import numpy as np


def packed_bytes(bits: int) -> int:
    """Bytes of a row of this many bits."""
    return -(-bits // 8)


def pack(values_NM: np.ndarray, bits_M: np.ndarray) -> np.ndarray:
    """Pack whole numbers in [0, 2**bits), one width for each column, into uint8 [N, bytes]."""
    if _are_equal(bits_M):
        return _pack_equal(values_NM, int(bits_M[0]))
    columns = np.repeat(np.arange(len(bits_M)), bits_M)
    shifts = np.repeat(np.cumsum(bits_M), bits_M) - 1 - np.arange(int(bits_M.sum()))
    return np.packbits((values_NM[:, columns] >> shifts & 1).astype(bool), axis=1)


def unpack(bytes_NB: np.ndarray, bits_M: np.ndarray) -> np.ndarray:
    """The numbers that were packed, int64 [N, M].

    Raises:
        ValueError: the bits do not fill this many bytes, or bits behind them are set.
    """
    total = int(bits_M.sum())
    _check_rows(bytes_NB, total)
    if _are_equal(bits_M):
        return _unpack_equal(bytes_NB, int(bits_M[0]), len(bits_M))
    set_NT = np.unpackbits(bytes_NB, axis=1)
    values_NM = np.zeros((len(bytes_NB), len(bits_M)), np.int64)
    first = np.cumsum(bits_M) - bits_M
    for place in range(int(bits_M.max(initial=0))):
        wide = np.flatnonzero(bits_M > place)
        values_NM[:, wide] = values_NM[:, wide] << 1 | set_NT[:, first[wide] + place]
    return values_NM


def subset_bits(num_classes: int, size: int) -> int:
    """Bits of a row of `pack_subsets`; 0 if the subset has all classes."""
    if size >= num_classes:
        return 0
    return min(num_classes, _split_bits(num_classes, size, _low_bits(num_classes, size)))


def pack_subsets(classes_Nk: np.ndarray, num_classes: int) -> np.ndarray:
    """Pack subsets of the classes, ascending in each row, into uint8 [N, bytes].

    Takes the shorter of two forms: a bitmap with one bit for each class, or split numbers (Elias-Fano), which
    keep the low bits of each class and a bitmap of the high parts, where the i-th class sets the bit (high
    part + i). For 10 of 1,000 classes that takes 85 bits. Plain numbers take 100, and no code less than 78.
    """
    count, size = classes_Nk.shape
    if size >= num_classes:
        return np.zeros((count, 0), np.uint8)
    low = _low_bits(num_classes, size)
    if num_classes <= _split_bits(num_classes, size, low):
        bitmap_NK = np.zeros((count, num_classes), bool)
        np.put_along_axis(bitmap_NK, classes_Nk, True, axis=1)
        return np.packbits(bitmap_NK, axis=1)
    high_NH = np.zeros((count, _high_places(num_classes, size, low)), bool)
    np.put_along_axis(high_NH, (classes_Nk >> low) + np.arange(size), True, axis=1)
    low_NL = classes_Nk[:, np.repeat(np.arange(size), low)] >> np.tile(np.arange(low)[::-1], size) & 1
    return np.packbits(np.concatenate([low_NL.astype(bool), high_NH], axis=1), axis=1)


def unpack_subsets(bytes_NB: np.ndarray, num_classes: int, size: int) -> np.ndarray:
    """The classes of each row, ascending, int64 [N, size].

    Raises:
        ValueError: the bytes are not a subset of this size.
    """
    if size >= num_classes:
        return np.tile(np.arange(num_classes), (len(bytes_NB), 1))
    total = subset_bits(num_classes, size)
    _check_rows(bytes_NB, total)
    set_NT, low = np.unpackbits(bytes_NB, axis=1), _low_bits(num_classes, size)
    if num_classes <= _split_bits(num_classes, size, low):
        return _set_places(set_NT[:, :num_classes], size)
    high_Nk = _set_places(set_NT[:, size * low : total], size) - np.arange(size)
    low_Nk = np.zeros_like(high_Nk)
    for place in range(low):
        low_Nk = low_Nk << 1 | set_NT[:, place : size * low : low]
    classes_Nk = high_Nk << low | low_Nk
    if (classes_Nk >= num_classes).any() or (np.diff(classes_Nk, axis=1) <= 0).any():
        raise ValueError(f"classes do not ascend below {num_classes}")
    return classes_Nk


def _check_rows(bytes_NB: np.ndarray, bits: int) -> None:
    if bytes_NB.ndim != 2 or bytes_NB.shape[1] != packed_bytes(bits):
        raise ValueError(f"rows of {bytes_NB.shape[1:]} bytes instead of {packed_bytes(bits)}")
    if bytes_NB.shape[1] and (bytes_NB[:, -1] & ((1 << -bits % 8) - 1)).any():
        raise ValueError("bits are set in the padding of a row")


def _are_equal(bits_M: np.ndarray) -> bool:
    return len(bits_M) > 0 and bool((bits_M == bits_M[0]).all()) and 0 < bits_M[0] <= 8


def _pack_equal(values_NM: np.ndarray, bits: int) -> np.ndarray:
    """Eight numbers at a time fill `bits` bytes."""
    count, size = values_NM.shape
    eights = -(-size // 8)
    eights_NE8 = np.zeros((count, eights, 8), np.uint64)
    eights_NE8.reshape(count, eights * 8)[:, :size] = values_NM
    joined_NE = np.zeros(eights_NE8.shape[:2], np.uint64)
    for place in range(8):
        joined_NE = joined_NE << np.uint64(bits) | eights_NE8[:, :, place]
    bytes_NEB = joined_NE.astype(">u8").view(np.uint8).reshape(count, eights, 8)[:, :, 8 - bits :]
    return np.ascontiguousarray(bytes_NEB.reshape(count, eights * bits)[:, : packed_bytes(bits * size)])


def _unpack_equal(bytes_NB: np.ndarray, bits: int, size: int) -> np.ndarray:
    count, eights = len(bytes_NB), -(-size // 8)
    padded_NB = np.zeros((count, eights * bits), np.uint8)
    padded_NB[:, : bytes_NB.shape[1]] = bytes_NB
    wide_NE8 = np.zeros((count, eights, 8), np.uint8)
    wide_NE8[:, :, 8 - bits :] = padded_NB.reshape(count, eights, bits)
    if bits == 8:
        return wide_NE8.reshape(count, eights * 8)[:, :size].astype(np.int64)
    joined_NE = wide_NE8.view(">u8")[:, :, 0].astype(np.int64)
    values_NE8 = joined_NE[:, :, None] >> (bits * np.arange(7, -1, -1)) & (2**bits - 1)
    return values_NE8.reshape(count, eights * 8)[:, :size]


def _set_places(bitmap_NP: np.ndarray, size: int) -> np.ndarray:
    if (bitmap_NP.sum(axis=1) != size).any():
        raise ValueError(f"a row does not name {size} classes")
    return np.nonzero(bitmap_NP)[1].reshape(len(bitmap_NP), size)


def _low_bits(num_classes: int, size: int) -> int:
    return min(range(num_classes.bit_length()), key=lambda low: _split_bits(num_classes, size, low))


def _split_bits(num_classes: int, size: int, low: int) -> int:
    return size * low + _high_places(num_classes, size, low)


def _high_places(num_classes: int, size: int, low: int) -> int:
    return ((num_classes - 1) >> low) + size
