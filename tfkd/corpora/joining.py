"""Joins several corpora, parts them, and removes a share of their transcripts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set

from tfkd.corpora.utterances import Corpus, Utterance
from tfkd.errors import ManifestError
from tfkd.storage.files import sha256_of_text

# Parts of whole speakers or recordings may be larger than the share by this factor.
_MOST_OF_SHARE = 1.5
# So may, with what nobody transcribed, all audio that is then not learned from.
_MOST_LEFT_OUT = 3.0


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


def held_out_ids(
    corpus: Corpus, share: float, parts: int, *, is_grouped: bool = True
) -> list[set[str]]:
    """Chooses the utterances of some parts to hold out, each with a share of the corpus.

    The share is of the utterances with a transcript or, if there are none, of all. Which they are
    depends on ids, speakers and recordings alone: neither on the order nor on the machine.

    Args:
      is_grouped: whether whole speakers are held out or, where these are too few or too large,
        whole recordings, with all that they say in the corpus, transcribed or not; single
        utterances only where neither gives parts of about that share.
    Raises:
      ManifestError: if the share is less than one utterance.
    """
    if not parts:
        return []
    utterances, _ = corpus
    candidates = measured_of(utterances)
    measured = {each.utterance_id for each in candidates}
    count = round(share * len(measured))
    if not count:
        raise ManifestError(
            f"a share of {share:g} of {len(measured)} utterances is none to hold out",
            remedy="name corpora.valid and corpora.test, or raise corpora.held_out_share",
        )
    most = _MOST_LEFT_OUT * share * len(utterances)
    for group_of in (_speaker, _recording) if is_grouped else ():
        chosen = _whole_groups(utterances, measured, group_of, count, parts, most)
        sizes = [len(part & measured) for part in chosen]
        if min(sizes) >= count and sum(sizes) < len(measured):
            return chosen
    return _whole_groups(candidates, measured, lambda each: each.utterance_id, count, parts, most)


def measured_of(utterances: Sequence[Utterance]) -> list[Utterance]:
    """What tells how good a recogniser is: the utterances with a transcript, or all if none has."""
    return [each for each in utterances if each.text is not None] or list(utterances)


def _speaker(utterance: Utterance) -> str:
    return utterance.speaker or _recording(utterance)


def _recording(utterance: Utterance) -> str:
    return str(utterance.audio)


def _whole_groups(
    utterances: Iterable[Utterance],
    measured: Set[str],
    group_of: Callable[[Utterance], str],
    count: int,
    parts: int,
    most: float,
) -> list[set[str]]:
    """Parts of whole groups, each of at least `count` measured utterances if there are such groups.

    The groups come in an order that does not depend on their sizes; one that would make a part much
    too large, or larger than `most` with what is not measured, is passed over.
    """
    groups: dict[str, set[str]] = {}
    for utterance in utterances:
        groups.setdefault(group_of(utterance), set()).add(utterance.utterance_id)
    known = [(group, group & measured) for group in groups.values()]
    left = sorted(
        ((group, own) for group, own in known if own),
        key=lambda each: sha256_of_text(f"held out: {min(each[1])}"),
    )
    chosen: list[set[str]] = []
    for _ in range(parts):
        part: set[str] = set()
        size, passed_over = 0, []
        for group, own in left:
            is_small = size + len(own) <= max(_MOST_OF_SHARE * count, 1)
            if size < count and is_small and len(part) + len(group) <= max(most, count):
                part |= group
                size += len(own)
            else:
                passed_over.append((group, own))
        chosen.append(part)
        left = passed_over
    return chosen


def shared_audio(corpus: Corpus, others: Corpus) -> list[str]:
    """Lists the ids of the utterances of a corpus whose audio is in another corpus, too."""
    there = {_place(each) for each in others[0]}
    return [each.utterance_id for each in corpus[0] if _place(each) in there]


def _place(utterance: Utterance) -> tuple[str, float | None, float | None, int | None]:
    part = utterance.start_seconds, utterance.end_seconds, utterance.channel
    return os.path.abspath(utterance.audio), *part


def parted(corpus: Corpus, utterance_ids: Collection[str]) -> tuple[Corpus, Corpus]:
    """Parts a corpus into the utterances with some ids, and the rest with all rejections."""
    utterances, rejections = corpus
    part = [each for each in utterances if each.utterance_id in utterance_ids]
    rest = [each for each in utterances if each.utterance_id not in utterance_ids]
    return (part, []), (rest, rejections)
