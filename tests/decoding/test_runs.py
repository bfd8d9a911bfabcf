"""A run transcribes recordings and folders, and returns words with their times."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from tfkd.decoding.results import word_spans
from tfkd.decoding.run_writing import save_run
from tfkd.decoding.runs import Run, run_files
from tfkd.errors import AudioError, TfkdError
from tfkd.records import Hypothesis


def test_a_recording_becomes_words_in_its_order(teacher, tiny_corpus):
    path = tiny_corpus / "test-01.wav"
    seconds = soundfile.info(path).duration
    transcript = teacher.transcribe(path)
    assert transcript.text == " ".join(word.text for word in transcript.words)
    assert transcript.text == transcript.segments[0].hypotheses[0].text
    times = [time for word in transcript.words for time in (word.start, word.end)]
    assert len(transcript.words) > 1
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= seconds + 0.1
    ((best, *_),) = (each.hypotheses for each in transcript.segments)
    # No space and no end is in a word, so words are likelier than the whole.
    product = np.prod([word.confidence for word in transcript.words])
    assert np.exp(best.log_prob) <= product * (1 + 1e-6)
    assert all(0 < word.confidence <= 1 for word in transcript.words)


def test_a_hypothesis_without_words_has_none(teacher, tiny_corpus, monkeypatch):
    eos = teacher.tokenizer.eos_id
    nothing = Hypothesis("", (eos,), -0.1, token_log_probs=(-0.1,), token_seconds=(0.0,))
    monkeypatch.setattr(Run, "decode", lambda self, waveforms: [(nothing,)])
    assert teacher.transcribe(tiny_corpus / "test-01.wav").words == ()


def test_a_long_recording_becomes_the_words_of_its_segments(teacher, tiny_corpus, tmp_path):
    parts = [
        soundfile.read(tiny_corpus / f"test-0{number}.wav", dtype="float32")[0]
        for number in range(6)
    ]
    whole = np.concatenate([np.pad(part, 400) for part in parts])
    soundfile.write(tmp_path / "long.wav", whole, 8000, subtype="FLOAT")
    transcript = teacher.transcribe(tmp_path / "long.wav")
    assert len(transcript.segments) > 3
    ends = [0.0, *(each.end_seconds for each in transcript.segments)]
    assert ends[:-1] == [each.start_seconds for each in transcript.segments]
    assert ends[-1] == len(whole) / 8000
    assert max(np.diff(ends)) <= teacher.usual_seconds
    texts, starts = [], []
    for begin, end, segment in zip(ends, ends[1:], transcript.segments, strict=False):
        (found,) = teacher.decode([whole[round(begin * 8000) : round(end * 8000)]])
        assert [each.token_ids for each in segment.hypotheses] == [each.token_ids for each in found]
        texts.append(found[0].text)
        starts += [
            begin + segment.hypotheses[0].token_seconds[first]
            for _, first, _ in word_spans(found[0].token_ids, teacher.tokenizer.pieces)
        ]
    assert transcript.text == " ".join(texts)
    assert [word.start for word in transcript.words] == starts
    assert len(starts) > 6


def test_a_text_that_was_cut_short_says_so(teacher, tiny_corpus, caplog):
    path = tiny_corpus / "test-01.wav"
    assert teacher.transcribe(path).segments[0].hypotheses[0].finish_reason == "eos"
    assert not caplog.records
    (segment,) = teacher.with_decoding(["max_tokens=3"]).transcribe(path).segments
    best = segment.hypotheses[0]
    assert (best.finish_reason, len(best.token_ids), segment.is_cut_short) == ("max_steps", 3, True)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{path}: the limit of tokens cut the text short in 1 of 1 segments, first at 0.0 s: "
        "run.with_decoding(['max_tokens=N']) raises it"
    )


def test_a_run_knows_how_long_utterances_usually_are(teacher, prepared, tmp_path):
    seconds = [row["num_samples"] / 8000 for row in prepared["valid"].index]
    assert teacher.usual_seconds == pytest.approx(np.quantile(seconds, 0.95))
    without = save_run(teacher.model, teacher.tokenizer, tmp_path / "run")
    assert without.usual_seconds == np.inf


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
    ("waveform", "remedy"),
    [
        (np.zeros(800, np.int16), "average the channels"),
        (np.zeros((1, 800), np.float32), "average the channels"),
        ("order.wav", "to read a file, use Run.transcribe"),
    ],
)
def test_what_is_no_waveform_is_refused(teacher, waveform, remedy):
    with pytest.raises(AudioError, match=rf"not float32 \[samples\] \({remedy}"):
        teacher.decode([np.zeros(800, np.float32), waveform])


@pytest.mark.parametrize(
    ("waveform", "message"),
    [(np.array([0.1, np.nan]), "NaN or infinite"), (np.zeros(0, np.float32), "is empty")],
)
def test_what_holds_no_speech_is_not_taken_for_silence(teacher, waveform, message):
    with pytest.raises(AudioError, match=message):
        teacher.decode([np.zeros(800, np.float32), waveform])


@pytest.mark.parametrize("sample", [np.nan, np.inf])
def test_a_faulty_sample_of_a_recording_is_found_as_on_a_device(teacher, tmp_path, sample):
    waveform = np.full(8000, 0.1, np.float32)
    waveform[4000] = sample
    path = tmp_path / "faulty.wav"
    soundfile.write(path, waveform, 8000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"faulty\.wav: the waveform holds NaN or infinite"):
        teacher.transcribe(path)


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
