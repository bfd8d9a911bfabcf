"""Writes text in the units of a recogniser, for the programs that estimate n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tfkd.errors import TextError
from tfkd.language_models.ngram import unit_names
from tfkd.language_models.sentences import encoded_sentences
from tfkd.progress import progress_bar
from tfkd.storage.files import atomic_write
from tfkd.text import Tokenizer


class UnitText(NamedTuple):
    """Counts the sentences of a text in units.

    Attributes:
      sentences: those that are written.
      skipped: those with characters that the tokenizer does not know.
      first_skipped: the first of these, and its characters; None if there is none.
    """

    sentences: int
    skipped: int
    first_skipped: str | None


def write_unit_text(
    sources: Sequence[str | Path], tokenizer: Tokenizer, out: str | Path
) -> UnitText:
    """Writes sentences, one a line, as the names of their units with spaces between.

    Args:
      sources: see `read_sentences`.
      tokenizer: of the recogniser.
      out: the file to write.
    Raises:
      TextError: if a file cannot be read, or no sentence can be spelt.
    """
    names = unit_names(tokenizer)
    written = skipped = 0
    first: str | None = None
    # Write one sentence after another, because the text may exceed the memory.
    with atomic_write(out) as file:
        sentences = encoded_sentences(sources, tokenizer)
        for ids in progress_bar(sentences, desc="lm-text", unit="sentences"):
            if isinstance(ids, TextError):
                skipped += 1
                first = first or ids.message
            else:
                file.write((" ".join(names[token] for token in ids) + "\n").encode())
                written += 1
    return UnitText(written, skipped, first)
