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
      needed: encodings that an alignment needs at least.
      encodings: those that the encoder gives.
    """

    utterance_id: str
    needed: int
    encodings: int


def encodings_needed(token_ids: Sequence[int]) -> int:
    """Encodings that an alignment of these labels needs: Graves et al. 2006, section 3.1.

    One for each label, and one for the blank between equal neighbours.

    >>> encodings_needed([4, 5, 5, 6])
    5
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
      rows: of the store's index.
      encodings: how many encodings each of them gets, [R].
      text: key of the rows that holds what is learned: `text`, or `hypothesis` for pseudo labels,
        of which the index has the best one.
    """
    found = []
    for row, available in zip(rows, encodings, strict=True):
        try:
            needed = encodings_needed(tokenizer.encode(row.get(text) or ""))
        except TextError:  # The survey drops what the tokenizer cannot spell, and says so.
            continue
        if needed > available:
            found.append(Unaligned(row["utterance_id"], needed, int(available)))
    return found
