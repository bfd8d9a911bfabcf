"""Asks for the device, for formulations that are chosen for the caches of a CPU.

They give the same numbers as the plain ones, but for rounding (docs/decisions/0008 and 0014): odds
in place of a tanh, groups of utterances one after another, kernels with spare columns. A GPU has
neither those caches nor a use for the steps that they add.
"""

from __future__ import annotations

import tensorflow as tf


def suits_cpu() -> bool:
    """Whether steps are to suit the caches of a CPU: no GPU is there to compute them."""
    return not tf.config.list_physical_devices("GPU")
