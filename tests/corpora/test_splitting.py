"""Long recordings are cut in their pauses, and nothing of them is lost."""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfkd import cli
from tfkd.audio.activity import cut_points
from tfkd.audio.reading import read_audio
from tfkd.config import PrepareConfig
from tfkd.corpora import Utterance, splitting
from tfkd.corpora.splitting import split_long
from tfkd.data import utterance_records
from tfkd.data.audio_batches import audio_batches
from tfkd.data.preparation import prepare
from tfkd.distillation.labelling import label
from tfkd.errors import ManifestError, RecordError
from tfkd.records import Store, open_store

MAX_SECONDS = 4.0
PAUSE_SECONDS = 0.5
SENTENCES = ["ba di ko", "mu se", "ko ba", "di di mu", "se ko", "ba mu di", "ko se"]


@pytest.fixture
def lecture(tmp_path, speak, rate_hz) -> tuple[Path, list[tuple[float, float]]]:
    """A recording of several sentences, and where its pauses begin and end, in seconds."""
    generator = np.random.default_rng(1)
    parts, pauses = [], []
    for number, sentence in enumerate(SENTENCES):
        speech, _ = soundfile.read(speak(tmp_path / "sentence.wav", sentence, seed=number))
        pause = 0.003 * generator.standard_normal(round(PAUSE_SECONDS * rate_hz))
        parts += [speech, pause]
        end = sum(map(len, parts)) / rate_hz
        pauses.append((end - PAUSE_SECONDS, end))
    path = tmp_path / "lecture.flac"
    soundfile.write(path, np.concatenate(parts), rate_hz)
    return path, pauses


@pytest.fixture
def config(prepare_config) -> PrepareConfig:
    return replace(prepare_config, max_seconds=MAX_SECONDS, too_long="split")


def prepared_from(rows: list[dict], directory: Path, config: PrepareConfig) -> Store:
    manifest = directory / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(manifest, directory / "data", config)
    return open_store(directory / "data")


def refuse(*_, **__):
    raise AssertionError("no audio is to be read")


def samples_of(store: Store) -> dict[str, np.ndarray]:
    return {
        record.utterance_id: soundfile.read(io.BytesIO(record.audio), dtype="float32")[0]
        for record in (getattr(each, "utterance", each) for each in store.records())
    }


def test_a_long_recording_is_cut_in_its_pauses_and_labelled(
    lecture, tmp_path, config, teacher, label_config, rate_hz
):
    path, pauses = lecture
    store = prepared_from([{"audio": path.name, "speaker": "x"}], tmp_path, config)
    pieces = store.pieces
    assert [piece.utterance_id for piece in pieces] == [
        f"lecture-{number:04d}" for number in range(1, len(pieces) + 1)
    ]
    assert {(piece.source_id, piece.source) for piece in pieces} == {("lecture", str(path))}
    assert max(piece.duration_seconds for piece in pieces) <= MAX_SECONDS
    for before, after in pairwise(pieces):
        assert after.start_seconds == before.start_seconds + before.duration_seconds
        assert any(begin < after.start_seconds < end for begin, end in pauses)
    samples = samples_of(store)
    original = read_audio(path, sample_rate_hz=rate_hz)
    joined = np.concatenate([samples[piece.utterance_id] for piece in pieces])
    np.testing.assert_array_equal(joined, original)
    assert (store.summary.split, store.summary.pieces) == (1, len(pieces))
    assert store.summary.records == len(pieces) > 2

    summary = label(teacher, store, tmp_path / "labels", label_config)
    labels = open_store(tmp_path / "labels")
    labels.verify()
    assert summary.records + summary.rejected == len(pieces)
    assert labels.pieces == pieces
    assert {row["utterance_id"] for row in labels.index} <= {p.utterance_id for p in pieces}


def test_where_a_piece_lies_holds_in_a_segment_and_at_another_rate(lecture, tmp_path, config):
    path, _ = lecture
    row = {"utterance_id": "part", "audio": path.name, "start_seconds": 0.7, "end_seconds": 7.3}
    store = prepared_from([row], tmp_path, replace(config, sample_rate_hz=11025))
    pieces = store.pieces
    assert pieces[0].start_seconds == 0.7
    assert pieces[-1].start_seconds + pieces[-1].duration_seconds == pytest.approx(7.3)
    samples = samples_of(store)
    for piece in pieces:
        assert len(samples[piece.utterance_id]) <= MAX_SECONDS * 11025
        again = read_audio(
            path,
            sample_rate_hz=11025,
            start_seconds=piece.start_seconds,
            end_seconds=piece.start_seconds + piece.duration_seconds,
        )
        np.testing.assert_allclose(samples[piece.utterance_id], again, atol=1 / 32768)


@pytest.mark.parametrize(("piece_seconds", "is_cut"), [(1.5, True), (4.0, True), (5.0, False)])
def test_pieces_may_be_shorter_than_the_longest_utterance(
    speak, tmp_path, prepare_config, rate_hz, piece_seconds, is_cut
):
    """A recording of 5.9 s is cut if that is more than a quarter longer than a piece."""
    speech, _ = soundfile.read(speak(tmp_path / "speech.wav", "ba di ko mu se"))
    samples = np.resize(speech, round(5.9 * rate_hz))
    soundfile.write(tmp_path / "talk.flac", samples, rate_hz)
    config = replace(
        prepare_config, max_seconds=30.0, too_long="split", piece_seconds=piece_seconds
    )
    rows = [{"audio": "talk.flac"}, {"utterance_id": "known", "audio": "talk.flac", "text": "ba"}]
    store = prepared_from(rows, tmp_path, config)
    lengths = {row["utterance_id"]: row["num_samples"] / rate_hz for row in store.index}
    assert lengths.pop("known") == pytest.approx(5.9)
    assert sum(lengths.values()) == pytest.approx(5.9)
    assert (len(lengths) > 1) == is_cut
    assert max(lengths.values()) <= (piece_seconds if is_cut else 5.9)


@pytest.mark.parametrize("is_copied", [False, True])
def test_a_rerun_finds_the_same_pieces(lecture, tmp_path, config, monkeypatch, is_copied):
    path, _ = lecture
    rows = [{"audio": path.name}]
    first = prepared_from(rows, tmp_path, config)
    marker = (first.directory / "complete.json").read_bytes()
    if is_copied:
        os.utime(path, (0, 0))  # so that the content has to be compared
    else:
        monkeypatch.setattr(splitting, "read_recording", refuse)
        monkeypatch.setattr(utterance_records, "read_recording", refuse)
    again = prepared_from(rows, tmp_path, config)
    assert (again.directory / "complete.json").read_bytes() == marker


def test_what_fills_the_memory_is_cut_alike(lecture, tmp_path, config, monkeypatch):
    rows = [{"audio": lecture[0].name}]
    pieces = prepared_from(rows, tmp_path, config).pieces
    monkeypatch.setattr(splitting, "_LONG_SECONDS", 1.0)
    (tmp_path / "again").mkdir()
    shutil.copy(lecture[0], tmp_path / "again")
    assert [
        replace(each, source="") for each in prepared_from(rows, tmp_path / "again", config).pieces
    ] == [replace(each, source="") for each in pieces]


def test_a_recording_that_was_cut_and_is_another_now_is_noticed(lecture, tmp_path, config, speak):
    path, _ = lecture
    prepared_from([{"audio": path.name}], tmp_path, config)
    samples, rate_hz = soundfile.read(path)
    soundfile.write(path, np.roll(samples, rate_hz), rate_hz)
    with pytest.raises(RecordError, match="other data|has changed"):
        prepared_from([{"audio": path.name}], tmp_path, config)


def test_prepare_says_how_many_recordings_were_cut(lecture, tmp_path, capsys):
    manifest, settings = tmp_path / "manifest.jsonl", tmp_path / "config.yaml"
    manifest.write_text(json.dumps({"audio": lecture[0].name}))
    settings.write_text(f"prepare: {{max_seconds: {MAX_SECONDS}, too_long: split}}")
    out = str(tmp_path / "data")
    cli.main(["prepare", str(manifest), "--out", out, "--config", str(settings)])
    count = open_store(out).summary.pieces
    said = f"1 recordings were too long and were cut into {count} pieces, which are among these; "
    assert said in capsys.readouterr().out


def test_changed_places_of_pieces_are_noticed(lecture, tmp_path, config):
    store = prepared_from([{"audio": lecture[0].name}], tmp_path, config)
    places = store.directory / "pieces.jsonl"
    places.write_text(places.read_text().replace('"start_seconds": 0.0', '"start_seconds": 0.5'))
    with pytest.raises(RecordError, match=r"pieces\.jsonl.*changed"):
        open_store(store.directory)


@pytest.mark.parametrize(
    ("too_long", "text", "advice"),
    [
        ("split", "ba di", "cut audio and text, or leave the text out"),
        ("reject", "ba di", "prepare.too_long: split"),
        ("reject", None, "prepare.too_long: split"),
    ],
)
def test_what_is_not_cut_is_rejected_by_name(
    lecture, tmp_path, speak, config, too_long, text, advice
):
    speak(tmp_path / "short.wav", "ba")
    rows = [{"audio": "short.wav"}, {"audio": lecture[0].name, "text": text}]
    settings = replace(config, too_long=too_long, max_rejected_share=0.5)
    store = prepared_from(rows, tmp_path, settings)
    (rejection,) = store.rejections
    assert (rejection.utterance_id, rejection.reason) == ("lecture", "too_long")
    assert advice in rejection.detail
    assert [row["utterance_id"] for row in store.index] == ["short"]
    assert (store.pieces, store.summary.pieces) == ([], 0)
    assert not (store.directory / "pieces.jsonl").exists()


def test_audio_that_cannot_be_cut_is_rejected_for_its_own_reason(tmp_path, speak, config, rate_hz):
    speak(tmp_path / "short.wav", "ba")
    spoilt = np.ones(6 * rate_hz) / 2
    spoilt[100] = np.nan
    soundfile.write(tmp_path / "spoilt.wav", spoilt, rate_hz, subtype="FLOAT")
    (tmp_path / "page.wav").write_text("a page of an error message\n" * 50)
    rows = [{"audio": f"{name}.wav"} for name in ("short", "spoilt", "page")]
    store = prepared_from(rows, tmp_path, replace(config, max_rejected_share=0.9))
    found = {each.utterance_id: each.reason for each in store.rejections}
    assert found == {"spoilt": "not_finite", "page": "undecodable_audio"}


def test_each_piece_counts_as_an_utterance(lecture, tmp_path, config, rate_hz):
    samples, _ = soundfile.read(lecture[0])
    silence = np.zeros(round(3 * MAX_SECONDS * rate_hz))
    soundfile.write(tmp_path / "long.flac", np.concatenate([samples, silence]), rate_hz)
    store = prepared_from([{"audio": "long.flac"}], tmp_path, replace(config, max_rejected_share=1))
    assert store.rejections
    assert {each.reason for each in store.rejections} == {"silent"}
    assert store.summary.records + store.summary.rejected == store.summary.pieces


def test_the_name_of_a_cut_file_may_hold_any_bytes(lecture, tmp_path, config):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    lecture[0].rename(folder / "lecture.flac")
    store = prepared_from([{"audio": "lecture.flac"}], folder, config)
    assert {piece.source_id for piece in store.pieces} == {"lecture"}
    assert "caf\\udce9" in store.pieces[0].source
    batches = list(audio_batches(store, 2))
    assert sum(len(batch["num_samples"]) for batch in batches) == store.summary.records


def test_a_piece_may_not_take_the_id_of_another_utterance(lecture, tmp_path, speak, config):
    speak(tmp_path / "lecture-0002.wav", "ba")
    rows = [{"audio": lecture[0].name}, {"audio": "lecture-0002.wav"}]
    with pytest.raises(ManifestError, match=r"lecture-0002: a piece of lecture would have the id"):
        prepared_from(rows, tmp_path, config)
    assert not (tmp_path / "data").exists()


def test_only_long_utterances_without_text_are_touched(lecture, tmp_path, speak, rate_hz):
    short = Utterance("short", speak(tmp_path / "short.wav", "ba"), speaker="x")
    known, long = Utterance("known", lecture[0], "ba"), Utterance("long", lecture[0], speaker="y")
    utterances, pieces = split_long(
        [short, known, long], sample_rate_hz=rate_hz, max_seconds=MAX_SECONDS, workers=2
    )
    assert utterances[:2] == [short, known]
    assert [each.utterance_id for each in utterances[2:]] == [p.utterance_id for p in pieces]
    assert {each.speaker for each in utterances[2:]} == {"y"}


# --- where to cut


@pytest.mark.parametrize("length", [400, 401, 449, 500, 799, 801, 1600, 5003])
@pytest.mark.parametrize("seed", range(5))
def test_pieces_are_neither_too_long_nor_slivers(length, seed):
    waveform = np.random.default_rng(seed).standard_normal(length).astype(np.float32)
    cuts = cut_points(waveform, 100, 400)
    lengths = np.diff([0, *cuts, length])
    assert lengths.max() <= 400
    assert lengths.min() >= 100 or length <= 400
    assert cuts == cut_points(waveform, 100, 400)


def test_the_cut_is_in_the_middle_of_the_longest_calm_not_at_the_quietest_sample():
    waveform = np.ones(1500, np.float32)
    waveform[700:705] = 0.0  # a stop consonant
    waveform[800:900] = 0.05  # a pause
    (cut,) = cut_points(waveform, 100, 1000)
    assert 815 <= cut <= 885


def test_even_noise_and_silence_can_be_cut():
    for waveform in (np.zeros(1000, np.float32), np.ones(1000, np.float32)):
        lengths = np.diff([0, *cut_points(waveform, 100, 300), 1000])
        assert lengths.max() <= 300
    assert cut_points(np.ones(7, np.float32), 16000, 1) == [1, 2, 3, 4, 5, 6]
