"""Several corpora become one, and transcripts are set aside by the ids of utterances alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfkd.corpora import Rejection, Utterance
from tfkd.corpora.joining import held_out_ids, join_corpora, shared_audio, without_transcripts
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


def spoken(name: str, speaker: str | None = None, audio: str | None = None) -> Utterance:
    return Utterance(name, Path(audio or f"{name}.wav"), "yes", speaker)


def test_whole_speakers_are_held_out():
    corpus = [spoken(f"u{n}", f"speaker {n % 20}") for n in range(200)], []
    parts = held_out_ids(corpus, 0.1, 2)
    numbers = [[int(name[1:]) for name in part] for part in parts]
    assert [len(part) for part in parts] == [20, 20]
    assert [len({n % 20 for n in part}) for part in numbers] == [2, 2]
    assert parts[0].isdisjoint(parts[1])


def test_parts_of_a_recording_are_held_out_together():
    corpus = [spoken(f"u{n}", audio=f"talk {n % 20}.wav") for n in range(200)], []
    (part,) = held_out_ids(corpus, 0.1, 1)
    assert len({int(name[1:]) % 20 for name in part}) == 2


def test_speakers_of_many_sizes_are_held_out_whole():
    """The first utterance of a large speaker comes early in any order by utterances."""
    sizes = [max(1, 600 // (1 + n)) for n in range(200)]
    corpus = [spoken(f"s{n}-{m}", f"speaker {n}") for n in range(200) for m in range(sizes[n])], []
    count = round(0.1 * len(corpus[0]))
    parts = held_out_ids(corpus, 0.1, 2)
    speakers = [{name.partition("-")[0] for name in part} for part in parts]
    for part, names in zip(parts, speakers, strict=True):
        assert count <= len(part) <= 1.5 * count
        assert len(part) == sum(sizes[int(name[1:])] for name in names)
    assert speakers[0].isdisjoint(speakers[1])


@pytest.mark.parametrize("share", [0.15, 0.5])
def test_nobody_who_is_held_out_is_learned_from_without_a_transcript(share):
    whole = [spoken(f"u{n}", f"speaker {n % 40}") for n in range(800)], []
    corpus = without_transcripts(whole, share)
    parts = held_out_ids(corpus, 0.05, 2)
    speakers = [{int(name[1:]) % 40 for name in part} for part in parts]
    assert speakers[0].isdisjoint(speakers[1])
    for part, names in zip(parts, speakers, strict=True):
        assert part == {f"u{n}" for n in range(800) if n % 40 in names}
        assert round(0.05 * 800 * share) <= len(part & transcribed(corpus)) <= 60 * share


def test_a_speaker_of_most_audio_without_transcripts_is_not_left_out():
    said = [spoken(f"u{n}", f"speaker {n % 50}") for n in range(100)]
    unsaid = [Utterance(f"v{n}", Path(f"v{n}.wav"), None, "speaker 1") for n in range(900)]
    assert all("u1" not in part for part in held_out_ids((said + unsaid, []), 0.2, 2))


def test_too_few_speakers_share_what_is_held_out():
    """Of three speakers, one would be a third of the corpus."""
    corpus = [spoken(f"u{n}", f"speaker {n % 3}") for n in range(60)], []
    alone = [spoken(f"u{n}") for n in range(60)], []
    (part,) = held_out_ids(corpus, 0.1, 1)
    assert len(part) == 6
    assert [part] == held_out_ids(alone, 0.1, 1)


def test_audio_that_two_corpora_share_is_found_whatever_its_id():
    learned = [spoken("a", audio="x/../one.wav"), spoken("b", audio="two.wav")], []
    measured = [spoken("c", audio="one.wav"), spoken("b", audio="three.wav")], []
    assert shared_audio(measured, learned) == ["c"]
