"""Draws random numbers that depend on the seed, the epoch and the utterance alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

_MANTISSA_BITS = 53


def hashes(names: Iterable[str]) -> np.ndarray:
    """Computes a 64-bit hash [N] uint64 of each name, the same on every machine."""
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


class Draws:
    """Random numbers of one epoch, a row for each utterance.

    Rows are independent, so other utterances do not change the numbers of a row.

    Args:
      names: [N], the hashes of the utterances, from `hashes`.
      seed: of the training.
      epoch: number of the epoch.
    References:
      Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators" (the mixing
      function of SplitMix64).

    >>> from tfkd.data.augmentation.draws import Draws, hashes
    >>> first = Draws(hashes(["a", "b"]), seed=0, epoch=3).uniform("gain")
    >>> bool(first[1] == Draws(hashes(["b"]), seed=0, epoch=3).uniform("gain")[0])
    True
    """

    def __init__(self, names: np.ndarray, seed: int, epoch: int) -> None:
        (of_epoch,) = hashes([f"{seed} {epoch}"])
        self.keys = _mixed(names ^ of_epoch)

    def uniform(self, purpose: str) -> np.ndarray:
        """Draws numbers [N] float64 in [0, 1); each purpose has numbers of its own."""
        (salt,) = hashes([purpose])
        return (_mixed(self.keys ^ salt) >> np.uint64(64 - _MANTISSA_BITS)) * 2.0**-_MANTISSA_BITS

    def between(self, purpose: str, bounds: tuple[float, float]) -> np.ndarray:
        """Draws numbers [N] float64, uniform between the bounds."""
        low, high = bounds
        return low + (high - low) * self.uniform(purpose)

    def happens(self, purpose: str, share: float) -> np.ndarray:
        """Draws [N] bool, each true with probability `share`."""
        return self.uniform(purpose) < share


def _mixed(values: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64 on uint64; products wrap around by design."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
