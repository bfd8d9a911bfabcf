"""Reads from the index of a store what is said in its utterances."""

from __future__ import annotations

from typing import Any

from tfkd.records.store import Store


def transcribed_rows(store: Store) -> list[dict[str, Any]]:
    """The index rows of the utterances with a transcript, which may say that nothing is said."""
    return [row for row in store.index if row.get("text") is not None]


def transcripts_of(store: Store) -> dict[str, str]:
    """The transcripts of a store by utterance id, in the order of the ids."""
    texts = {row["utterance_id"]: row["text"] for row in transcribed_rows(store)}
    return dict(sorted(texts.items()))
