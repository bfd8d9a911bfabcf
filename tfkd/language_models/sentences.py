"""Reads and tokenises the text that language models learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfkd.errors import TextError
from tfkd.records import open_store
from tfkd.storage.files import sha256_of_text
from tfkd.text import Tokenizer, extra_characters_of, transcript_of


@dataclass(frozen=True)
class Sentences:
    """The token ids of sentences, without sos and eos.

    Attributes:
      skipped: sentences with characters that the tokenizer does not know.
      first_skipped: the first of these, and its characters; None if there is none.
    """

    token_ids: tuple[tuple[int, ...], ...]
    skipped: int
    first_skipped: str | None = None

    @property
    def sha256(self) -> str:
        """The sha256 of the token ids, which identifies the sentences."""
        return sha256_of_text("\n".join(" ".join(map(str, ids)) for ids in self.token_ids))


def read_sentences(sources: Sequence[str | Path], tokenizer: Tokenizer) -> Sentences:
    """Reads and tokenises sentences; empty ones are left out.

    Args:
      sources: text files with a sentence a line, which are normalised as transcripts are, and
        folders that `tfkd prepare` wrote.
    Raises:
      TextError: if a file cannot be read, or no sentence is left.
    """
    known: list[tuple[int, ...]] = []
    skipped = 0
    first: str | None = None
    for ids in encoded_sentences(sources, tokenizer):
        if isinstance(ids, TextError):
            skipped += 1
            first = first or ids.message
        else:
            known.append(ids)
    return Sentences(tuple(known), skipped, first)


def encoded_sentences(
    sources: Sequence[str | Path], tokenizer: Tokenizer
) -> Iterator[tuple[int, ...] | TextError]:
    """Yields what `read_sentences` returns; an error for a sentence that cannot be spelt.

    Raises:
      TextError: if a file cannot be read; at the end, if no sentence could be spelt.
    """
    known = skipped = 0
    for source in sources:
        for text in _texts(Path(source), tokenizer):
            try:
                ids = tuple(tokenizer.encode(text))
            except TextError as error:
                skipped += 1
                yield error
            else:
                known += 1
                yield ids
    if not known:
        named = ", ".join(map(str, sources))
        raise TextError(
            f"no sentence that the tokenizer can spell in {named}; it skipped {skipped}",
            remedy="give text in the recogniser's language, a sentence a line",
        )


def _texts(source: Path, tokenizer: Tokenizer) -> Iterator[str]:
    if source.is_dir():
        yield from (row["text"] for row in open_store(source).index if row.get("text"))
        return
    extra = extra_characters_of(tokenizer.pieces)
    try:
        with open(source, encoding="utf-8") as lines:
            found = (transcript_of(line, extra_characters=extra).text for line in lines)
            yield from filter(None, found)
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(
            f"cannot read the text: {error}",
            path=source,
            remedy="give a store, or a file in UTF-8 with a sentence a line",
        ) from error
