"""Declares the bounds of a numeric setting beside its default."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

_BOUNDS, _IS_LATER, _IS_INTERVAL = "bounds", "is_later", "is_interval"

# Metadata of a setting that was added after the first digests were made: see `config_digest`.
LATER = {_IS_LATER: True}


@dataclass(frozen=True)
class Bounds:
    """The limits of a numeric setting; None is no limit."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def fault(self, value: float) -> str | None:
        """Describes the limit that `value` violates; returns None if it violates none."""
        if self.at_least is not None and value < self.at_least:
            return f"{value} is below {self.at_least}"
        if self.above is not None and value <= self.above:
            return f"{value} is not above {self.above}"
        if self.at_most is not None and value > self.at_most:
            return f"{value} is above {self.at_most}"
        if self.below is not None and value >= self.below:
            return f"{value} is not below {self.below}"
        return None


def number(
    default: T,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    is_later: bool = False,
) -> T:
    """Declares a numeric field of a config class with its default and its bounds.

    The bounds of a tuple apply to each of its numbers; None, where the type allows it, is always
    valid. Use `number(x)` for a field without bounds: a test rejects plain numeric defaults, which
    may lack bounds by mistake.

    Args:
      default: the default value.
      at_least, above, at_most, below: the bounds.
      is_later: whether the setting was added after the first digests: see `config_digest`.

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class NoiseConfig:
    ...     probability: float = number(0.0, at_least=0, at_most=1)
    >>> list(faults(NoiseConfig(probability=1.5)))
    [('probability', '1.5 is above 1')]
    """
    bounds = Bounds(at_least, above, at_most, below)
    # `field` returns a Field, which `dataclass` replaces by the default.
    declared: Any = dataclasses.field(
        default=default, metadata={_BOUNDS: bounds, _IS_LATER: is_later}
    )
    return declared


def interval(
    default: tuple[float, float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> tuple[float, float]:
    """Declares a field with the two ends of a range, the lower one first.

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class NoiseConfig:
    ...     snr_db: tuple[float, float] = interval((5.0, 40.0), at_least=-20)
    >>> list(faults(NoiseConfig(snr_db=(40.0, 5.0))))
    [('snr_db', 'needs two numbers, the lower one first')]
    """
    metadata = {_BOUNDS: Bounds(at_least=at_least, at_most=at_most), _IS_INTERVAL: True}
    declared: Any = dataclasses.field(default=default, metadata=metadata)
    return declared


def bounds_of(field: dataclasses.Field) -> Bounds | None:
    """Returns the bounds that `number` declared; None for other fields."""
    return field.metadata.get(_BOUNDS)


def is_later(field: dataclasses.Field) -> bool:
    """Whether the field was added after the first digests were made."""
    return field.metadata.get(_IS_LATER, False)


def default_of(field: dataclasses.Field) -> Any:
    """Returns the default of a field."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def faults(config: Any) -> Iterator[tuple[str, str]]:
    """Yields (name, description) for each field of a config that is out of its bounds."""
    for field in dataclasses.fields(config):
        bounds, value = bounds_of(field), getattr(config, field.name)
        if bounds is None or value is None:
            continue
        if field.metadata.get(_IS_INTERVAL) and not (len(value) == 2 and value[0] <= value[1]):
            yield field.name, "needs two numbers, the lower one first"
        for each in value if isinstance(value, tuple) else (value,):
            fault = bounds.fault(each)
            if fault is not None:
                yield field.name, fault
