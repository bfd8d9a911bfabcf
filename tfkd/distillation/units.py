"""Keeps the teacher's tokenizer beside labels with posteriors, which speak of its token ids.

A student that learns the posteriors (word_kd) must use the same units as its teacher.
"""

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
    """Computes the sha256 of the kind and the pieces, which decide what each token id means."""
    return sha256_of_text("\n".join([tokenizer.kind, *tokenizer.pieces]))


def write_units(tokenizer: Tokenizer, labels: str | Path) -> None:
    """Writes the tokenizer into the folder of a store of labels.

    Raises:
      RecordError: if it cannot be written.
    """
    directory = Path(labels) / UNITS
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(directory)


def units_of(store: Store) -> Tokenizer:
    """Loads the tokenizer whose token ids a store of labels holds.

    Raises:
      CheckpointError: if the tokenizer is damaged or missing.
      RecordError: if the store was labelled without posteriors, or its folder holds another
        tokenizer.
    """
    expected = store.plan.sources.get(UNITS)
    if expected is None:
        raise RecordError(
            "holds neither posteriors nor the tokenizer of its token ids",
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
