"""Counts the weights of a model without allocating them, and refuses models that do not fit."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import keras

from tfkd.environment import memory_bytes
from tfkd.errors import ConfigError

_FLOAT32 = 4
# A training step holds the weights, their gradients, and two moments of the optimizer.
_COPIES_WHILE_TRAINING = 4
_GIGA = 1e9


def count_parameters(make: Callable[[], keras.Model]) -> int:
    """Counts the weights of the model that `make` builds, without allocating them.

    Keras keeps a list for each thread of the variables that are created in a stateless scope. So
    the model is built in a thread of its own, whose list is freed when the thread ends.

    >>> count_parameters(lambda: keras.Sequential([keras.Input((9,)), keras.layers.Dense(10**6)]))
    10000000
    """
    counts: list[int] = []
    faults: list[Exception] = []

    def build() -> None:
        try:
            with keras.StatelessScope(initialize_variables=False):
                counts.extend(math.prod(v.shape) for v in make().weights)
        except Exception as fault:  # Raised again below, in the caller's thread.
            faults.append(fault)

    thread = threading.Thread(target=build)
    thread.start()
    thread.join()
    if faults:
        raise faults[0]
    return sum(counts)


def check_trainable(make: Callable[[], keras.Model]) -> None:
    """Raises ConfigError if a training of the model needs more memory than this machine has."""
    _check(make, "training", _COPIES_WHILE_TRAINING * _FLOAT32)


def check_loadable(make: Callable[[], keras.Model]) -> None:
    """Raises ConfigError if the weights of the model exceed the memory of this machine."""
    _check(make, "holding", _FLOAT32)


def _check(make: Callable[[], keras.Model], purpose: str, bytes_each: int) -> None:
    parameters, available = count_parameters(make), memory_bytes()
    if available is not None and bytes_each * parameters > available:
        raise ConfigError(
            f"the model has {parameters:,} parameters: {purpose} it takes "
            f"{bytes_each * parameters / _GIGA:,.0f} GB at least, this machine has "
            f"{available / _GIGA:,.0f} GB",
            remedy="choose fewer units or layers; tfkd params counts the parameters of a config",
        )
