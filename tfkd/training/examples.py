"""Loads the utterances of a training, each with the targets that its objective makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfkd.audio.flac import decode_flac
from tfkd.errors import RecordError
from tfkd.objectives.objective import Arrays, Dropped
from tfkd.records import RandomAccess
from tfkd.text import Tokenizer
from tfkd.training.sources import Source

# Decoded audio is cached up to this size, 9 hours at 16 kHz; the rest is decoded in each epoch.
_CACHE_BYTES = 2**30


class Example(NamedTuple):
    """One utterance with its targets.

    Attributes:
      waveform: [N] int16.
      arrays: the targets that its objective makes of it.
    """

    waveform: np.ndarray
    arrays: Arrays


class Examples:
    """Loads utterances with their targets, by place: the number of a row in all indices together.

    What is decoded first, up to `_CACHE_BYTES` of audio, stays in memory.
    """

    def __init__(self, sources: Sequence[Source], tokenizer: Tokenizer) -> None:
        self.tokenizer, self.sources = tokenizer, sources
        self._records = [RandomAccess(source.store) for source in sources]
        self._ends = np.cumsum([len(records) for records in self._records])
        self._kept: dict[int, Example] = {}
        self._free_bytes = _CACHE_BYTES

    def __getitem__(self, place: int) -> Example:
        if (kept := self._kept.get(place)) is not None:
            return kept
        example = self._load(place)
        if example.waveform.nbytes <= self._free_bytes:
            self._free_bytes -= example.waveform.nbytes
            self._kept[place] = example
        return example

    def source_number(self, place: int) -> int:
        """Returns the number of the source that holds a place."""
        return int(np.searchsorted(self._ends, place, side="right"))

    def _load(self, place: int) -> Example:
        number = self.source_number(place)
        record = self._records[number][place - self._ends[number]]
        targets = self.sources[number].objective.targets(record, self.tokenizer)
        if isinstance(targets, Dropped):
            raise RecordError(
                "gives no target, although it gave one before the training began",
                path=self.sources[number].store.directory,
                utterance_id=record.utterance_id,
                remedy="leave the store unchanged while it is read",
            )
        waveform = decode_flac(record.utterance.audio, "int16")
        return Example(waveform, targets.arrays)


def num_samples_of(sources: Sequence[Source]) -> list[int]:
    """Lists the number of samples of each utterance, store after store."""
    return [row["num_samples"] for source in sources for row in source.store.index]
