"""The teacher's units, kept beside labels whose tokens a student is to take as they are."""

from __future__ import annotations

from pathlib import Path

from tfkd.errors import RecordError
from tfkd.records import Store
from tfkd.storage.files import sha256_of_text
from tfkd.text import Tokenizer, load_tokenizer

# The folder of the tokenizer in a store of labels, and its name among the sources of the plan.
UNITS = "units"
_REMEDY = "label with tfkd label --top-m 8, and a teacher that tfkd trained"


def units_sha256(tokenizer: Tokenizer) -> str:
    """Identity of what each token id means."""
    return sha256_of_text("\n".join([tokenizer.kind, *tokenizer.pieces]))


def write_units(tokenizer: Tokenizer, labels: str | Path) -> None:
    """Writes the tokenizer into the folder of a store of labels; RecordError if it cannot."""
    directory = Path(labels) / UNITS
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(directory)


def units_of(store: Store) -> Tokenizer:
    """The tokenizer whose ids a store of labels holds.

    Raises:
      CheckpointError: if the tokenizer is damaged or gone.
      RecordError: if the store does not say which it is, or another one lies there.
    """
    expected = store.plan.sources.get(UNITS)
    if expected is None:
        raise RecordError(
            "does not say what its tokens are, nor keep posteriors",
            path=store.directory,
            remedy=_REMEDY,
        )
    tokenizer = load_tokenizer(store.directory / UNITS)
    if units_sha256(tokenizer) != expected:
        raise RecordError(
            "is not the tokenizer of these labels",
            path=store.directory / UNITS,
            remedy="copy it from the teacher's run",
        )
    return tokenizer
