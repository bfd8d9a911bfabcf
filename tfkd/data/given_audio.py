"""Opens the audio that a user gives: a store, or a corpus, prepared while a command runs."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfkd.config import PrepareConfig, TextConfig
from tfkd.corpora import Rejection, read_corpus
from tfkd.data.preparation import prepare_corpus
from tfkd.data.rejections import described
from tfkd.data.sample_rates import check_rate
from tfkd.errors import TfkdError
from tfkd.records import Store, is_store, open_verified
from tfkd.storage.scratch import scratch_folder
from tfkd.text import extra_characters_of

_LOG = logging.getLogger("tfkd")


def preparation_for(sample_rate_hz: int, pieces: Sequence[str]) -> PrepareConfig:
    """Makes the settings that prepare a corpus for an existing recogniser.

    Args:
      sample_rate_hz: of the recogniser.
      pieces: of its tokenizer; normalisation keeps their characters.
    """
    text = TextConfig(extra_characters=extra_characters_of(pieces))
    return PrepareConfig(sample_rate_hz=sample_rate_hz, text=text)


@contextlib.contextmanager
def utterance_store(data: str | Path, config: PrepareConfig) -> Iterator[Store]:
    """Opens a store, or prepares a corpus as a temporary store, at the model's sample rate.

    Args:
      data: a store, or a corpus that `prepare` reads.
      config: the sample rate, and the settings of preparation.
    Raises:
      ManifestError: if `data` is neither.
      RecordError: if the store is damaged, incomplete, empty, or at another sample rate.
    """
    with store_of_any_rate(data, config) as store:
        check_rate(store, config.sample_rate_hz)
        yield store


@contextlib.contextmanager
def store_of_any_rate(data: str | Path, config: PrepareConfig) -> Iterator[Store]:
    """Like `utterance_store`, but a store may have another sample rate than `config`."""
    if is_store(data):
        yield open_verified(data)
        return
    with scratch_folder() as scratch:
        prepare_corpus(read_corpus(data), data, scratch, config, is_kept=False)
        store = dataclasses.replace(open_verified(scratch), corpus=Path(data))
        _warn_of(store.rejections, len(store.index), data)
        try:
            yield store
        except TfkdError as error:
            if error.path == scratch:  # Name what the user gave, not a folder that is gone.
                error.path = data
            raise


def _warn_of(rejections: Sequence[Rejection], usable: int, source: str | Path) -> None:
    """Logs the rejections of a temporary store, whose `rejected.jsonl` will be removed."""
    if rejections:
        _LOG.warning(
            "%s: %d of %d utterances are unusable%s",
            source,
            len(rejections),
            usable + len(rejections),
            described(rejections),
        )
