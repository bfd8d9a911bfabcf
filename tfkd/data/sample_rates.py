"""The sample rate of a store, which is that of the model that hears it."""

from __future__ import annotations

from tfkd.errors import RecordError
from tfkd.records import Store


def rate_of(store: Store) -> int:
    """Returns the sample rate in hertz of a store's utterances, the same for all; there is one.

    >>> rate_of(tfkd.open_store("work/data/valid"))
    8000
    """
    row = store.index[0]
    return round(row["num_samples"] / row["duration_seconds"])


def check_rate(store: Store, sample_rate_hz: int) -> None:
    """Checks that the utterances of a store have the sample rate of a model.

    Raises:
      RecordError: if they have another.
    """
    if store.index and rate_of(store) != sample_rate_hz:
        raise RecordError(
            f"is at {rate_of(store)} Hz, the model needs {sample_rate_hz}",
            path=store.directory,
            remedy="prepare it with the model's sample rate",
        )
