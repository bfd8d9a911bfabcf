"""Changes of valid bytes that parsers stumble over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Limits of the integers of binary formats.
_BIG_NUMBERS = [
    (2**bits - less).to_bytes(width, order)
    for width in (2, 4, 8)
    for bits in (8 * width - 1, 8 * width)
    for less in (1, 2)
    for order in ("little", "big")
]
_MOST_CHANGES = 4
_LONGEST_REPEAT = 64


def mutate(
    samples: Sequence[bytes], words: Sequence[bytes], generator: np.random.Generator
) -> bytes:
    """One to four changes of one of `samples`: flip, set, cut, drop, insert, repeat or splice.

    Args:
      words: what the format gives a meaning to; inserted beside big numbers.
    """
    data = samples[generator.integers(len(samples))]
    for _ in range(generator.integers(1, _MOST_CHANGES + 1)):
        data = _change(data, samples, [*words, *_BIG_NUMBERS], generator)
    return data


def _change(
    data: bytes, samples: Sequence[bytes], words: Sequence[bytes], generator: np.random.Generator
) -> bytes:
    start, end = sorted(generator.integers(len(data) + 1, size=2).tolist())
    word = words[generator.integers(len(words))]
    match generator.integers(8):
        case 0:
            return _flip(data, generator)
        case 1:
            return data[:start] + generator.bytes(1) + data[start + 1 :]
        case 2:
            return data[:end]
        case 3:
            return data[:start] + data[end:]
        case 4:
            return data[:start] + word + data[start:]
        case 5:
            return data[:start] + word + data[start + len(word) :]
        case 6:
            piece = data[start : start + int(generator.integers(1, _LONGEST_REPEAT))]
            return data[:start] + piece * int(generator.integers(2, _LONGEST_REPEAT)) + data[start:]
        case _:
            other = samples[generator.integers(len(samples))]
            return data[:start] + other[generator.integers(len(other) + 1) :]


def _flip(data: bytes, generator: np.random.Generator) -> bytes:
    if not data:
        return data
    position, bit = generator.integers(len(data)), generator.integers(8)
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]
