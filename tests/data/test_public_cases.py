"""The inputs that public reports were tried with, each with its right result.

They lie beside the real speech (`shared_data`), and these tests skip without them. Each kind has
tests on inputs of its own as well: docs/reliability/public-reports.md names them.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from tfkd.audio.flac import decode_flac
from tfkd.config import PrepareConfig
from tfkd.data.preparation import prepare
from tfkd.distillation.nbest_conversion import jsonl_to_labels
from tfkd.errors import ManifestError, TfkdError
from tfkd.records import Store, open_store

DAMAGED, TRUNCATED = "undecodable_audio", "truncated_audio"

# By the kind of each case: its folder, what is prepared in it, the seconds and the words of what
# is read, and why the rest is not.
CASES = {
    "a damaged page in Ogg": (
        "01-ogg-damaged-page", "m.jsonl", {"clean.ogg": (8.0, "one two")},
        {"bitflip.ogg": DAMAGED, "short_bitflip.ogg": DAMAGED}),
    "a second file after the declared end": (
        "02-joined-wav-flac", "m.jsonl", {},
        dict.fromkeys(("declares_half.wav", "joined.flac", "joined.wav", "resumed.wav"), DAMAGED)),
    "channels that cancel": (
        "03-stereo-opposite-phase", "m.jsonl", {"phase": (1.0, "one two")}, {}),
    "a speaker a channel": (
        "04-two-channels-two-speakers", "m.jsonl",
        {"call-A": (1.0, "one two"), "call-B": (1.0, "three four")}, {}),
    "a placeholder for the size": (
        "05-wav-placeholder-size", "m.jsonl",
        {"2000000000": (1.0, "one two"), "7FFFFFFF": (1.0, "one two")}, {}),
    "an MP3 without its end": (
        "07-mp3-cut", "m.jsonl", {"whole.mp3": (10.0, "one two")}, {"cut.mp3": TRUNCATED}),
    "a FLAC without a length": (
        "08-flac-without-length", "m.jsonl", {"piped": (1.0, "one two")}, {}),
    "fields of other toolkits": (
        "10-unknown-keys", "m.jsonl",
        {"right": (2.0, "one"), "hf": (2.0, "two"), "hf2": (2.0, "three"), "typo": (2.0, None),
         "part": (0.5, "five"), "part2": (0.5, "six")}, {}),
    "parts without ids": (
        "11-nemo-manifests-without-ids", "segments.json",
        {"talk-0.00-1.00": (1.0, "one"), "talk-1.00-2.00": (1.0, "two")}, {}),
    "files of one name without ids": (
        "11-nemo-manifests-without-ids", "basenames.json",
        {"s1/SA1": (1.0, "one"), "s2/SA1": (1.0, "two")}, {}),
    "an empty text": ("12-empty-text", "empty.jsonl", {"a": (1.0, "")}, {}),
    "a placeholder for a text": ("12-empty-text", "unlabelled.json", {"a": (1.0, None)}, {}),
    "paths of Kaldi": (
        "14-paths-and-what-was-looked-for", "data/train",
        {"a": (1.0, "one two"), "b": (1.0, "three")}, {}),
    "clips named with their folder": (
        "14-paths-and-what-was-looked-for", "cv/t.tsv", {"x": (1.0, "one")}, {}),
    "bad lines of segments": (
        "15-kaldi-counted-twice", "data",
        {f"u{n:03}": (1.0, "one two") for n in range(3, 100)},
        {f"u{n:03}": "bad_line" for n in range(3)}),
    "commands of Kaldi": (
        "16-kaldi-commands", "data", {"a": (1.0, "one two"), "b": (1.0, "three")}, {}),
    "text for some": (
        "17-kaldi-text-for-some", "data",
        {"a": (1.0, "one two"), "b": (1.0, None), "c": (1.0, None), "d": (1.0, None)}, {}),
    "characters that are not seen": (
        "18-format-characters-split-words", "m.jsonl",
        {"bom": (1.0, "helloworld"), "rlm": (1.0, "\u05e9\u05dc\u05d5\u05dd"),
         "soft_hyphen": (1.0, "wortteil"), "word_joiner": (1.0, "microphone"),
         "zwsp": (1.0, "hello"),
         "zwj_malayalam": (1.0, "\u0d05\u0d35\u0d28\u0d4d\u0d31\u0d46"),
         "zwj_sinhala": (1.0, "\u0dc1\u0dca\u0dbb\u0dd3 \u0dbd\u0d82\u0d9a\u0dcf"),
         "zwnj_persian": (1.0, "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645")}, {}),
    "tags that nobody said": (
        "20-tags-become-words", "m.jsonl",
        {"giga": (1.0, "hello world"), "swbd": (1.0, "uh yeah"), "ted": (1.0, "and so")}, {}),
    "an array": ("21-other-manifests", "array.json", {"a": (1.0, "one")}, {}),
    "JSON over several lines": ("21-other-manifests", "pretty.json", {"a": (1.0, "one")}, {}),
    "SpeechBrain's JSON": ("21-other-manifests", "speechbrain.json", {"u1": (1.0, "one")}, {}),
    "SpeechBrain's CSV": ("21-other-manifests", "sb.csv", {"u1": (1.0, "one")}, {}),
    "gzip": ("21-other-manifests", "m.jsonl.gz", {"a": (1.0, "one")}, {}),
    "what is no audio": (
        "22-what-is-no-audio", "m.jsonl", {},
        dict.fromkeys(("a.m4a", "a.webm", "browser.wav", "error.wav", "lfs.wav"), DAMAGED)),
    "an end of -1.00": (
        "25-kaldi-segments", "minus", {"a": (1.0, "one"), "b": (1.0, "two")}, {}),
    "a channel in segments": (
        "25-kaldi-segments", "channel", {"a": (1.0, "one"), "b": (1.0, "two")}, {}),
}  # fmt: skip


@pytest.fixture(scope="session")
def cases(shared_data) -> Path:
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip("no cases of public reports beside the real speech")
    return folder


@pytest.fixture
def case(cases, tmp_path, monkeypatch):
    """Copies a case, and works in the copy, as its reporter did."""

    def enter(name: str) -> None:
        shutil.copytree(cases / name, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)

    return enter


def prepared(source: str) -> Store:
    prepare(source, "out", PrepareConfig(max_rejected_share=1.0))
    return open_store("out")


def audio(store: Store, name: str) -> np.ndarray:
    return decode_flac(store.record(name).audio)


@pytest.mark.parametrize("kind", CASES)
def test_each_case_comes_to_its_right_result(case, kind):
    folder, source, read, refused = CASES[kind]
    case(folder)
    if not read:  # A corpus of which nothing is usable is refused.
        with pytest.raises(ManifestError, match=f"{len(refused)} of {len(refused)} utterances"):
            prepared(source)
        return
    store = prepared(source)
    found = {row.utterance_id: (row.num_samples / 16000, row.text) for row in store.records()}
    assert found == read
    assert {each.utterance_id: each.reason for each in store.rejections} == refused


def test_no_case_is_without_a_test(cases):
    """13 needs a model: tests/evaluation/test_evaluate.py; 23 is below."""
    tested = {folder for folder, *_ in CASES.values()} | {"23-nbest-lists"}
    folders = {path.name for path in cases.iterdir() if path.is_dir()}
    assert folders - tested <= {"13-evaluate-half-a-test-set"}


def test_neither_silence_nor_a_mixture_is_stored(case):
    """Channels that cancel, and a speaker a channel."""
    case("03-stereo-opposite-phase")
    assert np.abs(audio(prepared("m.jsonl"), "phase")).max() > 0.05


def test_a_channel_for_each_speaker(case):
    case("04-two-channels-two-speakers")
    store = prepared("m.jsonl")
    one, other = (audio(store, name) for name in ("call-A", "call-B"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.5


def test_what_is_forgiven_or_not_known_is_said(case, caplog):
    caplog.set_level(logging.WARNING)
    case("10-unknown-keys")
    prepared("m.jsonl")
    assert "'txt' (1 x, did you mean 'text'?)" in caplog.text
    assert "1 of 6 utterances have no transcript" in caplog.text


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("positive", "data", "at most 0"),
        ("prob", "data", "give its natural logarithm as log_prob"),
        ("avg", "data", "multiply it by the number of tokens"),
        ("ext", "data", "the data calls it 'a'"),
        ("bom", "data", None),
        ("int_id", "data_int", None),
    ],
)
def test_nbest_lists_of_other_recognisers(case, name, data, message):
    """Costs, probabilities, means, a byte order mark, and ids as others write them."""
    case("23-nbest-lists")
    prepared(f"{data}.jsonl")
    if message is None:
        assert (
            jsonl_to_labels(f"{name}.jsonl", open_store("out"), "labels", PrepareConfig()).records
            == 1
        )
    else:
        with pytest.raises(TfkdError, match=message):
            jsonl_to_labels(f"{name}.jsonl", open_store("out"), "labels", PrepareConfig())
