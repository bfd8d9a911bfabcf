"""Cuts a corpus into batches of utterances of like length."""

from __future__ import annotations

import numpy as np

# Utterances whose lengths differ by less than this factor are in random order: with the longest of
# a batch near the upper end, about half of it is padding.
_LENGTH_JITTER = 1.1


def plan_batches(
    lengths: np.ndarray, batch_size: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Cuts a corpus into batches of neighbours in length, in random order and random company.

    Utterances are sorted by their length times a random factor between 1 and `_LENGTH_JITTER`, cut
    into batches of nearly equal size, and the batches are shuffled.

    Args:
      lengths: [n], of the utterances.
    Returns:
      For each batch the numbers of its utterances, at most `batch_size`; each number once in all.
    """
    if not len(lengths):
        return []
    jittered = lengths * generator.uniform(1, _LENGTH_JITTER, len(lengths))
    batches = np.array_split(np.argsort(jittered), -(-len(lengths) // batch_size))
    return [batches[number] for number in generator.permutation(len(batches))]
