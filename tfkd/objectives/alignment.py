"""Finds the utterances that CTC cannot align, because they have more labels than encodings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tfkd.errors import TextError
from tfkd.text import Tokenizer


@dataclass(frozen=True)
class Unaligned:
    """An utterance that the CTC loss leaves out.

    Attributes:
      needed: the least number of encodings that an alignment needs.
      encodings: the number of encodings that the encoder gives.
    """

    utterance_id: str
    needed: int
    encodings: int


def encodings_needed(token_ids: Sequence[int]) -> int:
    """Counts the encodings that a CTC alignment of these labels needs at least.

    Each label needs one, and so does the blank between two equal neighbours.

    >>> encodings_needed([4, 5, 5, 6])
    5

    References:
      Graves et al. 2006, "Connectionist temporal classification", section 3.1.
    """
    return len(token_ids) + sum(first == second for first, second in pairwise(token_ids))


def unaligned(
    rows: Iterable[Mapping[str, Any]],
    encodings: Iterable[int],
    tokenizer: Tokenizer,
    *,
    text: str = "text",
) -> list[Unaligned]:
    """Finds the utterances of a store that are too short for their labels.

    Args:
      rows: the R rows of the store's index.
      encodings: the number of encodings of each row, [R].
      text: the key of a row's target text: `text`, or `hypothesis` for pseudo labels, of which the
        index holds the best one.
    """
    found = []
    for row, available in zip(rows, encodings, strict=True):
        try:
            needed = encodings_needed(tokenizer.encode(row.get(text) or ""))
        except TextError:  # The survey drops and reports texts that the tokenizer cannot spell.
            continue
        if needed > available:
            found.append(Unaligned(row["utterance_id"], needed, int(available)))
    return found
