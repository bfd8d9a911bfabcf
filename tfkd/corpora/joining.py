"""Joins several corpora, parts them, and removes a share of their transcripts."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from tfkd.corpora.utterances import Corpus, Utterance
from tfkd.errors import ManifestError
from tfkd.storage.files import sha256_of_text


def join_corpora(corpora: Mapping[str, Corpus]) -> Corpus:
    """Joins corpora in their order.

    Args:
      corpora: what was read, by the name of its source.
    Raises:
      ManifestError: if two of them use the same utterance id.
    """
    source_of: dict[str, str] = {}
    for source, (utterances, _) in corpora.items():
        for utterance in utterances:
            other = source_of.setdefault(utterance.utterance_id, source)
            if other != source:
                raise ManifestError(
                    f"uses the same id as {other}",
                    path=source,
                    utterance_id=utterance.utterance_id,
                    remedy="give each utterance an id of its own in `utterance_id`",
                )
    return (
        [utterance for utterances, _ in corpora.values() for utterance in utterances],
        [rejection for _, rejections in corpora.values() for rejection in rejections],
    )


def without_transcripts(corpus: Corpus, kept_share: float = 0.0) -> Corpus:
    """Removes all but a share of the transcripts of a corpus.

    Which transcripts stay depends on the ids of the utterances alone: neither on their order nor
    on the machine. A corpus of which some is kept keeps one at least.

    >>> from pathlib import Path
    >>> corpus = [Utterance(f"u{n}", Path("a.wav"), "yes") for n in range(20)], []
    >>> utterances, _ = without_transcripts(corpus, kept_share=0.15)
    >>> [each.utterance_id for each in utterances if each.text is not None]
    ['u3', 'u10', 'u16']
    """
    utterances, rejections = corpus
    ids = [each.utterance_id for each in utterances if each.text is not None]
    count = max(round(kept_share * len(ids)), kept_share > 0)
    kept = set(sorted(ids, key=sha256_of_text)[:count])

    def hidden(each: Utterance) -> Utterance:
        return each if each.utterance_id in kept else dataclasses.replace(each, text=None)

    return [hidden(each) for each in utterances], rejections


def held_out_ids(corpus: Corpus, share: float, parts: int) -> list[set[str]]:
    """Chooses the utterances of some parts to hold out, each with a share of the corpus.

    They are of those with a transcript or, if there are none, of all. Which they are depends on the
    ids alone: neither on their order nor on the machine, nor on whose transcripts were removed.

    Raises:
      ManifestError: if the share is less than one utterance.
    """
    utterances, _ = corpus
    transcribed = [each.utterance_id for each in utterances if each.text is not None]
    ids = transcribed or [each.utterance_id for each in utterances]
    count = round(share * len(ids))
    if parts and not count:
        raise ManifestError(
            f"a share of {share:g} of {len(ids)} utterances is none to hold out",
            remedy="name corpora.valid and corpora.test, or raise corpora.held_out_share",
        )
    ordered = sorted(ids, key=lambda name: sha256_of_text(f"held out: {name}"))
    return [set(ordered[part * count : (part + 1) * count]) for part in range(parts)]


def parted(corpus: Corpus, utterance_ids: Collection[str]) -> tuple[Corpus, Corpus]:
    """Parts a corpus into the utterances with some ids, and the rest with all rejections."""
    utterances, rejections = corpus
    part = [each for each in utterances if each.utterance_id in utterance_ids]
    rest = [each for each in utterances if each.utterance_id not in utterance_ids]
    return (part, []), (rest, rejections)
