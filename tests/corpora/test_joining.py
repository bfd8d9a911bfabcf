"""Several corpora become one, and transcripts are set aside by the ids of utterances alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfkd.corpora import Rejection, Utterance
from tfkd.corpora.joining import join_corpora, without_transcripts
from tfkd.errors import ManifestError


def utterances(*ids: str, text: str | None = "yes") -> list[Utterance]:
    return [Utterance(name, Path(f"{name}.wav"), text) for name in ids]


def transcribed(corpus) -> set[str]:
    return {each.utterance_id for each in corpus[0] if each.text is not None}


def test_joined_corpora_keep_every_utterance_and_rejection_in_order():
    rejected = [Rejection("x", "bad_line", "not JSON", "b.jsonl:3")]
    joined = join_corpora({"a": (utterances("1", "2"), []), "b": (utterances("3"), rejected)})
    assert [each.utterance_id for each in joined[0]] == ["1", "2", "3"]
    assert joined[1] == rejected


def test_an_id_of_two_corpora_is_named_with_both():
    corpora = {"a.jsonl": (utterances("1"), []), "b.jsonl": (utterances("2", "1"), [])}
    with pytest.raises(ManifestError, match="b.jsonl: utterance 1: uses the same id as a.jsonl"):
        join_corpora(corpora)


def test_which_transcripts_stay_does_not_depend_on_the_order():
    ids = [f"u{number}" for number in range(200)]
    kept = transcribed(without_transcripts((utterances(*ids), []), 0.15))
    assert len(kept) == 30
    assert transcribed(without_transcripts((utterances(*reversed(ids)), []), 0.15)) == kept
    # A larger share keeps what a smaller one keeps.
    assert kept < transcribed(without_transcripts((utterances(*ids), []), 0.5))


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.001, 1), (0.5, 5), (1.0, 10)])
def test_a_share_above_zero_keeps_at_least_one_transcript(share, count):
    corpus = utterances(*map(str, range(10))) + utterances("silent", text=None), []
    assert len(transcribed(without_transcripts(corpus, share))) == count
    assert len(without_transcripts(corpus, share)[0]) == 11
