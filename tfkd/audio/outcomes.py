"""Keeps what was learned of recordings of late, also that they cannot be used."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import TypeVar

from tfkd.audio.unusable import UnusableAudio

T = TypeVar("T")


def keeping_outcomes(maxsize: int) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Keeps the latest results of a function of hashable arguments, as `functools.lru_cache` does.

    The latter forgets what raised an error, so a damaged recording would be examined anew for each
    of its segments.
    """

    def decorated(function: Callable[..., T]) -> Callable[..., T]:
        @functools.lru_cache(maxsize=maxsize)
        def outcome(*args: Hashable) -> T | UnusableAudio:
            try:
                return function(*args)
            except UnusableAudio as error:
                # Without what else it would keep alive.
                error.__cause__ = error.__context__ = None
                return error.with_traceback(None)

        @functools.wraps(function)
        def remembered(*args: Hashable) -> T:
            result = outcome(*args)
            if isinstance(result, UnusableAudio):
                raise result.with_traceback(None)
            return result

        return remembered

    return decorated
