"""A run transcribes recordings and folders, and returns words with their times."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from tfkd.decoding.results import word_spans
from tfkd.decoding.runs import Run, run_files
from tfkd.errors import AudioError, TfkdError
from tfkd.records import Hypothesis


def test_a_recording_becomes_words_in_its_order(teacher, tiny_corpus):
    path = tiny_corpus / "test-01.wav"
    seconds = soundfile.info(path).duration
    transcript = teacher.transcribe(path)
    assert transcript.text == " ".join(word.text for word in transcript.words)
    assert transcript.text == transcript.hypotheses[0].text
    times = [time for word in transcript.words for time in (word.start, word.end)]
    assert len(transcript.words) > 1
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= seconds + 0.1
    best = transcript.hypotheses[0]
    # No space and no end is in a word, so words are likelier than the whole.
    product = np.prod([word.confidence for word in transcript.words])
    assert np.exp(best.log_prob) <= product * (1 + 1e-6)
    assert all(0 < word.confidence <= 1 for word in transcript.words)


def test_a_hypothesis_without_words_has_none(teacher, tiny_corpus, monkeypatch):
    eos = teacher.tokenizer.eos_id
    nothing = Hypothesis("", (eos,), -0.1, token_log_probs=(-0.1,), token_seconds=(0.0,))
    monkeypatch.setattr(Run, "decode", lambda self, waveforms: [(nothing,)])
    assert teacher.transcribe(tiny_corpus / "test-01.wav").words == ()


def test_waveforms_of_any_length_are_decoded_together_as_alone(teacher, tiny_corpus):
    waveforms = [soundfile.read(tiny_corpus / f"test-0{n}.wav", dtype="float32")[0] for n in (0, 1)]
    waveforms.append(np.zeros(4000, np.float32))
    together = teacher.decode(waveforms)
    assert together[2] == ()
    for waveform, found in zip(waveforms, together, strict=True):
        (alone,) = teacher.decode([waveform])
        assert [each.token_ids for each in alone] == [each.token_ids for each in found]
    assert teacher.decode([]) == []


@pytest.mark.parametrize(
    "waveform", [np.zeros(800, np.int16), np.zeros((1, 800), np.float32), "order.wav"]
)
def test_what_is_no_waveform_is_refused(teacher, waveform):
    with pytest.raises(AudioError, match=r"not float32 \[samples\] \(average the channels"):
        teacher.decode([np.zeros(800, np.float32), waveform])


def test_what_is_no_recording_is_named(teacher, tmp_path):
    with pytest.raises(AudioError, match="absent.wav"):
        teacher.transcribe(tmp_path / "absent.wav")


def test_data_of_another_rate_is_refused(teacher, prepared, tmp_path):
    with teacher.open_data(prepared["test"].directory) as store:
        assert len(store.index) == 6
    assert teacher.sample_rate_hz == 8000
    with pytest.raises(TfkdError), teacher.open_data(teacher.directory):
        pass


def test_the_files_of_a_run_decide_what_it_says(teacher):
    names = {path.name for path in run_files(teacher.directory)}
    assert names == {"model.keras", "config.yaml", "tokenizer.json"}


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["a", "b"], [("ab", 0, 1)]),
        ([" a", "b", " c"], [("ab", 0, 1), ("c", 2, 2)]),
        (["a", " ", "", "b", ""], [("a", 0, 0), ("b", 3, 3)]),
        (["a b", "c"], [("a", 0, 0), ("bc", 0, 1)]),
        (["", " ", ""], []),
    ],
)
def test_words_begin_and_end_where_their_tokens_do(pieces, expected):
    assert list(word_spans(range(len(pieces)), pieces)) == expected
