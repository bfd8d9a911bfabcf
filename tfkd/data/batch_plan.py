"""Divides a corpus into batches of utterances of similar length."""

from __future__ import annotations

import numpy as np

# Lengths are multiplied by a random factor between 1 and this one before they are sorted, so that
# batches differ from epoch to epoch; padding grows by about half of it.
_LENGTH_JITTER = 1.1
# Lies between the first seeds of two trainings; none has as many passes.
_STRIDE = 1_000_003


def seed_of_pass(seed: int, number_of_pass: int) -> int:
    """Returns a seed for each pass of each training, so that no two go through data alike.

    >>> seed_of_pass(0, 1) == seed_of_pass(1, 0)
    False
    """
    return _STRIDE * seed + number_of_pass


def plan_batches(
    lengths: np.ndarray, batch_size: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Divides utterances into random batches of similar length, in random order.

    Utterances are sorted by their length times a random factor between 1 and `_LENGTH_JITTER`,
    divided into batches of nearly equal size, and the batches are shuffled.

    Args:
      lengths: [n], of the utterances.
      batch_size: largest number of utterances in a batch.
      generator: of the random factors and the order.
    Returns:
      The numbers of each batch's utterances; every number occurs once.
    """
    if not len(lengths):
        return []
    jittered = lengths * generator.uniform(1, _LENGTH_JITTER, len(lengths))
    batches = np.array_split(np.argsort(jittered), -(-len(lengths) // batch_size))
    return [batches[number] for number in generator.permutation(len(batches))]
