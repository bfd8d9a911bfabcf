"""Compares two recognisers by what they heard in the same utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfkd.errors import TfkdError
from tfkd.evaluation.evaluate import Recognition
from tfkd.metrics import count_word_errors, difference_of_counts, rate_with_interval
from tfkd.records import Store
from tfkd.storage.json_files import read_dataclass_lines

_FROM_EVALUATE = "give a file that tfkd evaluate --transcripts wrote for the same data"


@dataclass(frozen=True)
class Comparison:
    """Two recognisers on the utterances that both have transcribed.

    Attributes:
      wer: of the one.
      other_wer: of the other one.
      difference: fields of `metrics.Difference`: WER of the one minus that of the other.
      utterances: number of utterances that both have transcribed.
      left_out: number of utterances that only one of them has transcribed.
    """

    wer: float
    other_wer: float
    difference: Mapping[str, float]
    utterances: int
    left_out: int


def read_transcripts(path: str | Path, store: Store) -> dict[str, Recognition]:
    """Reads what a recogniser heard in utterances of a store, by their ids.

    Args:
      path: JSON Lines with the fields of `Recognition`.
      store: utterances.
    Raises:
      TfkdError: if an utterance is not in the store, has another transcript there, or is repeated.
      RecordError: if a line holds anything else.
    """
    transcripts: dict[str, Recognition] = {}
    known = {row["utterance_id"]: row.get("text") for row in store.index}
    for row in read_dataclass_lines(path, Recognition, remedy=_FROM_EVALUATE):
        if row.utterance_id not in known:
            fault = f"is not in {store.directory}"
        elif known[row.utterance_id] != row.reference:
            fault = f"has another transcript in {store.directory}"
        elif row.utterance_id in transcripts:
            fault = "is there twice"
        else:
            transcripts[row.utterance_id] = row
            continue
        raise TfkdError(fault, path=path, utterance_id=row.utterance_id, remedy=_FROM_EVALUATE)
    if not transcripts:
        raise TfkdError("holds no transcript", path=path, remedy=_FROM_EVALUATE)
    return transcripts


def compared(one: Sequence[Recognition], other: Mapping[str, Recognition]) -> Comparison | None:
    """Compares the word errors of two recognisers by a paired bootstrap.

    Args:
      one: transcripts of the one, from `evaluate`.
      other: those of the other one, from `read_transcripts`.
    Returns:
      The comparison, or None if they have no utterance in common.

    >>> heard = [Recognition("a1", "seven four", "seven four")]
    >>> other = {"a1": Recognition("a1", "seven four", "seven or")}
    >>> compared(heard, other).difference["wer"]
    -0.5
    """
    pairs = [(row, other[row.utterance_id]) for row in one if row.utterance_id in other]
    if not pairs:
        return None
    references = [row.reference for row, _ in pairs]
    heard = [[each.hypothesis for each in rows] for rows in zip(*pairs, strict=True)]
    own, others = (count_word_errors(references, each) for each in heard)
    return Comparison(
        wer=rate_with_interval(own)[0],
        other_wer=rate_with_interval(others)[0],
        difference=difference_of_counts(own, others)._asdict(),
        utterances=len(pairs),
        left_out=len(one) + len(other) - 2 * len(pairs),
    )
