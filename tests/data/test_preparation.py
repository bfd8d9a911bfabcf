"""Bad input becomes a named rejection, good input a record, and nothing is lost between them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tfkd.audio import decoders
from tfkd.audio.flac import decode_flac, encode_flac
from tfkd.config import PrepareConfig, TextConfig
from tfkd.corpora import read_corpus
from tfkd.data import utterance_records
from tfkd.data.given_audio import utterance_store
from tfkd.data.preparation import prepare
from tfkd.errors import ManifestError, RecordError
from tfkd.records import Store, StoreWriter, UtteranceRecord, open_store

RATE_HZ = 8000
REASONS = {
    "cut-short": "truncated_audio",
    "no-audio": "undecodable_audio",
    "empty": "undecodable_audio",
    "missing": "missing_file",
    "good-0": "duplicate_id",
    "with-nan": "not_finite",
    "blip": "too_short",
    "lecture": "too_long",
    "digital-zero": "silent",
    "manifest.jsonl:14": "bad_line",
}
GOOD = {f"good-{number}": ("Ba, DI!", "ba di")[number % 2] for number in range(4)}
# Its text, " ... ", is a placeholder: the audio can still be labelled.
WORDLESS = "wordless"


def write_manifest(path: Path, rows: Iterable[dict | str]) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_bad_files(directory: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 600 * RATE_HZ)
    for name, waveform in {
        "cut-short.flac": noise[:RATE_HZ],
        "wordless.wav": noise[:RATE_HZ],
        "blip.wav": noise[: RATE_HZ // 100],
        "lecture.wav": noise,
        "digital-zero.wav": np.zeros(RATE_HZ),
    }.items():
        soundfile.write(directory / name, waveform, RATE_HZ)
    whole = (directory / "cut-short.flac").read_bytes()
    (directory / "cut-short.flac").write_bytes(whole[: len(whole) // 2])
    (directory / "no-audio.wav").write_text("a page of an error message, saved as audio\n" * 50)
    (directory / "empty.wav").touch()
    spoilt = noise[:RATE_HZ].copy()
    spoilt[100] = np.nan
    soundfile.write(directory / "with-nan.wav", spoilt, RATE_HZ, subtype="FLOAT")


@pytest.fixture(scope="module")
def bad_manifest(tmp_path_factory, speak) -> Path:
    """Four good lines, and one of each fault."""
    directory = tmp_path_factory.mktemp("bad")
    rows = [{"audio": f"{name}.wav", "text": text} for name, text in GOOD.items()]
    for row in rows:
        speak(directory / row["audio"], "ba di", seed=len(row))
    write_bad_files(directory)
    for name in ("cut-short.flac", "no-audio.wav", "empty.wav", "missing.wav", "with-nan.wav"):
        rows.append({"audio": name, "text": "ba"})
    rows.append({"audio": "wordless.wav", "text": " ... "})
    rows += [{"audio": f"{name}.wav", "text": "ba"} for name in ("blip", "lecture", "digital-zero")]
    return write_manifest(directory / "manifest.jsonl", [*rows, '{"audio": "half of a li', rows[0]])


@pytest.fixture(scope="module")
def mixed_store(bad_manifest, tmp_path_factory) -> Store:
    out = tmp_path_factory.mktemp("mixed")
    config = PrepareConfig(sample_rate_hz=RATE_HZ, shard_size=3, max_rejected_share=0.9)
    prepare(bad_manifest, out, config)
    return open_store(out)


@pytest.mark.parametrize(("utterance_id", "reason"), REASONS.items())
def test_bad_input_is_rejected_by_name(mixed_store, utterance_id, reason):
    (found,) = [r for r in mixed_store.rejections if r.utterance_id == utterance_id]
    assert found.reason == reason
    assert found.detail
    assert "\n" not in found.detail
    expected_source = "manifest.jsonl" if reason in ("duplicate_id", "bad_line") else utterance_id
    assert expected_source in found.source


def test_every_line_is_a_record_or_a_rejection(mixed_store, bad_manifest):
    lines = bad_manifest.read_text().splitlines()
    summary = mixed_store.summary
    assert {row["utterance_id"] for row in mixed_store.index} == {*GOOD, WORDLESS}
    assert {r.utterance_id for r in mixed_store.rejections} == set(REASONS)
    assert summary.records == len(GOOD) + 1
    assert (summary.rejected, summary.rejected_before_planning) == (8, 2)
    assert summary.records + summary.rejected + summary.rejected_before_planning == len(lines)


def test_good_input_among_the_bad_is_whole(mixed_store, bad_manifest):
    mixed_store.verify(deep=True)
    for record in mixed_store.records():
        original, _ = soundfile.read(bad_manifest.parent / f"{record.utterance_id}.wav")
        assert record.num_samples == len(original)
        assert record.text == (None if record.utterance_id == WORDLESS else "ba di")


@pytest.mark.parametrize("share", [0.05, 0.6])
def test_too_large_a_share_fails_with_one_line(bad_manifest, tmp_path, share):
    config = PrepareConfig(sample_rate_hz=RATE_HZ, max_rejected_share=share)
    with pytest.raises(ManifestError) as raised:
        prepare(bad_manifest, tmp_path / "out", config)
    message = str(raised.value)
    assert "\n" not in message
    assert str(bad_manifest) in message
    assert "of 15 utterances are unusable" in message
    assert "max_rejected_share" in message


def test_what_makes_the_share_too_large_can_be_looked_up(bad_manifest, tmp_path):
    config = PrepareConfig(sample_rate_hz=RATE_HZ, max_rejected_share=0.6)
    with pytest.raises(ManifestError, match="10 of 15.*2 undecodable_audio") as raised:
        prepare(bad_manifest, tmp_path / "out", config)
    report = tmp_path / "out" / "rejected.jsonl"
    assert str(report) in str(raised.value)
    assert len(report.read_text().splitlines()) == 10


def test_a_corpus_of_which_too_much_is_unusable_leaves_no_finished_store(bad_manifest, tmp_path):
    config = PrepareConfig(sample_rate_hz=RATE_HZ, max_rejected_share=0.6)
    for _ in range(2):
        with pytest.raises(ManifestError, match="10 of 15"):
            prepare(bad_manifest, tmp_path / "out", config)
        with pytest.raises(RecordError, match="not complete"):
            open_store(tmp_path / "out")


def test_a_wrong_folder_is_noticed_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(utterance_records, "read_recording", refuse)
    rows = [{"audio": f"{number}.wav", "text": "ba"} for number in range(5)]
    manifest = write_manifest(tmp_path / "manifest.jsonl", rows)
    with pytest.raises(ManifestError, match=r"5 of 5 utterances are unusable \(5 missing_file\)"):
        prepare(manifest, tmp_path / "out", PrepareConfig(max_rejected_share=1.0))
    assert not (tmp_path / "out").exists()


def test_the_reason_is_said_where_no_line_can_be_read(tmp_path):
    manifest = write_manifest(tmp_path / "manifest.jsonl", [{"sound": "a.wav", "text": "ba"}])
    with pytest.raises(ManifestError, match=r"manifest.jsonl:1: .*name the file in `audio`"):
        prepare(manifest, tmp_path / "out", PrepareConfig())


def test_the_share_can_be_raised_where_it_was_too_small(bad_manifest, tmp_path):
    config = PrepareConfig(sample_rate_hz=RATE_HZ, max_rejected_share=0.6)
    with pytest.raises(ManifestError, match="10 of 15"):
        prepare(bad_manifest, tmp_path / "out", config)
    summary = prepare(bad_manifest, tmp_path / "out", replace(config, max_rejected_share=0.8))
    assert summary.records == 5


def test_a_finished_store_stays_what_it_was_if_a_rerun_is_refused(bad_manifest, tmp_path):
    config = PrepareConfig(sample_rate_hz=RATE_HZ, max_rejected_share=0.67)
    manifest = tmp_path / "corpus.jsonl"
    rows = bad_manifest.read_text().replace('"audio": "', f'"audio": "{bad_manifest.parent}/')
    manifest.write_text(rows)
    prepare(manifest, tmp_path / "out", config)
    manifest.write_text(f"{rows}\n{{half of a li")
    with pytest.raises(ManifestError, match="11 of 16 utterances are unusable"):
        prepare(manifest, tmp_path / "out", config)
    assert len(open_store(tmp_path / "out").rejections) == 10
    prepare(manifest, tmp_path / "out", replace(config, max_rejected_share=0.7))
    assert len(open_store(tmp_path / "out").rejections) == 11


def test_a_folder_in_place_of_a_recording_is_named_as_one(tmp_path, speak):
    speak(tmp_path / "good.wav", "ba", seed=0)
    (tmp_path / "clips").mkdir()
    rows = [{"audio": "good.wav", "text": "ba"}, {"audio": "clips", "text": "di"}]
    config = PrepareConfig(sample_rate_hz=RATE_HZ, max_rejected_share=0.5)
    prepare(write_manifest(tmp_path / "m.jsonl", rows), tmp_path / "out", config)
    (rejection,) = open_store(tmp_path / "out").rejections
    assert rejection.reason == "missing_file"
    assert "is a folder, not a recording" in rejection.detail


def refuse(*arguments, **settings):
    raise AssertionError("this must not be called")


def test_utterances_need_no_text(tmp_path, speak):
    rows = [{"audio": "a.wav"}, {"audio": "b.wav", "text": "Ba"}]
    for row in rows:
        speak(tmp_path / row["audio"], "ba")
    manifest = write_manifest(tmp_path / "manifest.jsonl", rows)
    summary = prepare(manifest, tmp_path / "out", PrepareConfig(sample_rate_hz=RATE_HZ))
    assert (summary.records, summary.rejected) == (2, 0)
    store = open_store(tmp_path / "out")
    assert [record.text for record in store.records()] == [None, "ba"]
    assert [row["text"] for row in store.index] == [None, "ba"]


def test_audio_is_resampled_and_text_normalised_as_configured(tmp_path, speak):
    original = speak(tmp_path / "a.flac", "ba di mu")
    manifest = write_manifest(tmp_path / "m.jsonl", [{"audio": "a.flac", "text": "Ba-DI…  mu?"}])
    config = PrepareConfig(sample_rate_hz=16000, text=TextConfig(extra_characters="-?"))
    prepare(manifest, tmp_path / "out", config)
    (record,) = open_store(tmp_path / "out").records()
    assert record.sample_rate_hz == 16000
    assert record.num_samples == 2 * soundfile.info(original).frames
    assert record.text == "ba-di mu?"


def content_of(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes of each file; for the shards the time of writing too."""
    return {
        str(path.relative_to(directory)): (
            path.read_bytes(),
            path.stat().st_mtime_ns if path.suffix == ".tfrecord" else 0,
        )
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def corpus_copy(tiny_corpus, tmp_path) -> Path:
    return shutil.copytree(tiny_corpus, tmp_path / "corpus")


def test_a_rerun_decodes_nothing_and_changes_nothing(
    corpus_copy, tmp_path, prepare_config, monkeypatch
):
    manifest, out = corpus_copy / "train.jsonl", tmp_path / "out"
    first = prepare(manifest, out, prepare_config)
    before = content_of(out)
    monkeypatch.setattr(utterance_records, "read_recording", refuse)
    assert prepare(manifest, out, prepare_config) == first
    assert content_of(out) == before


def test_segments_of_one_recording_cost_one_pass_of_its_decoder(
    tmp_path, prepare_config, monkeypatch
):
    soundfile.write(tmp_path / "talk.mp3", np.random.default_rng(0).uniform(-0.5, 0.5, 80000), 8000)
    rows = [
        {"audio": "talk.mp3", "id": f"talk-{n}", "text": "ba", "start": n, "end": n + 1}
        for n in range(10)
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names, open_ = [], decoders.AudioFile._open
    monkeypatch.setattr(decoders.AudioFile, "_open", lambda self: names.append(1) or open_(self))
    prepare(tmp_path / "m.jsonl", tmp_path / "store", replace(prepare_config, shard_size=5))
    assert len(names) == 2  # of each shard


def test_a_copy_of_recordings_is_the_same_corpus_wherever_a_decoder_began(
    tmp_path, prepare_config, monkeypatch
):
    """MP3 rounds otherwise there: earlier versions read each segment by itself."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 160000)
    soundfile.write(tmp_path / "talk.mp3", samples, 8000)
    rows = [
        {"audio": "talk.mp3", "id": f"talk-{n:02d}", "text": "ba", "start": 2 * n, "end": 2 * n + 2}
        for n in range(10)
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(utterance_records, "_MOST_OF_ONE_FILE", 1)
    first = prepare(tmp_path / "m.jsonl", tmp_path / "store", prepare_config)
    monkeypatch.undo()
    os.utime(tmp_path / "talk.mp3", (0, 0))
    assert prepare(tmp_path / "m.jsonl", tmp_path / "store", prepare_config) == first


def test_a_rerun_after_a_crash_decodes_only_what_is_missing(
    corpus_copy, tmp_path, prepare_config, monkeypatch, prepared
):
    real, calls = utterance_records.read_recording, []

    def counted(path, **settings):
        calls.append(path.stem)
        return real(path, **settings)

    def crashing(path, **settings):
        if path.stem == "train-10":
            raise KeyboardInterrupt
        return real(path, **settings)

    manifest, out = corpus_copy / "train.jsonl", tmp_path / "out"
    monkeypatch.setattr(utterance_records, "read_recording", crashing)
    with pytest.raises(KeyboardInterrupt):
        prepare(manifest, out, prepare_config)
    with pytest.raises(RecordError, match="not complete"):
        open_store(out)
    monkeypatch.setattr(utterance_records, "read_recording", counted)
    prepare(manifest, out, prepare_config)
    # Shards hold four utterances: the first two were done.
    assert sorted(calls) == ["lost", *(f"train-{number:02d}" for number in range(8, 24))]
    assert open_store(out).sha256 == prepared["train"].sha256


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda corpus, config: replace(config, min_seconds=0.05), "min_seconds=0.05 here"),
        (lambda corpus, config: spoil(corpus / "valid-01.wav") or config, "valid-01.*has changed"),
        (lambda corpus, config: relabel(corpus / "valid.jsonl") or config, "has changed"),
    ],
    ids=["settings", "audio", "text"],
)
def test_a_folder_of_other_settings_or_data_is_refused(
    corpus_copy, tmp_path, prepare_config, change: Callable, named
):
    manifest, out = corpus_copy / "valid.jsonl", tmp_path / "out"
    prepare(manifest, out, prepare_config)
    before = content_of(out)
    config = change(corpus_copy, prepare_config)
    with pytest.raises(RecordError, match=f"{named}.*another --out"):
        prepare(manifest, out, config)
    assert content_of(out) == before


def test_a_copy_of_the_corpus_continues_its_store(corpus_copy, tmp_path, prepare_config, caplog):
    """Files that are only older or newer, or written anew, hold the same audio."""
    manifest, out = corpus_copy / "valid.jsonl", tmp_path / "out"
    first = prepare(manifest, out, prepare_config)
    before = content_of(out)
    for path in corpus_copy.glob("*.wav"):
        os.utime(path, ns=(1, 1))
    title = corpus_copy / "valid-01.wav"
    title.write_bytes(title.read_bytes() + b"LIST\4\0\0\0INFO")
    assert prepare(manifest, out, prepare_config) == first
    assert content_of(out).items() - before.items() == {
        ("same_corpora.json", ((out / "same_corpora.json").read_bytes(), 0))
    }
    assert "comparing the content of the files with that of" in caplog.text
    caplog.clear()
    assert prepare(manifest, out, prepare_config) == first
    assert not caplog.text  # The copy is known now.
    for path in (out / "shards").glob("*00001*"):
        path.unlink()
    assert prepare(manifest, out, prepare_config) == first


def test_another_version_of_the_encoder_makes_no_other_audio(
    corpus_copy, tmp_path, prepare_config, monkeypatch
):
    """FLAC names its encoder in its header."""
    manifest, out = corpus_copy / "valid.jsonl", tmp_path / "out"
    first = prepare(manifest, out, prepare_config)
    for path in corpus_copy.glob("*.wav"):
        os.utime(path, ns=(1, 1))

    def encoded(*given: Any) -> bytes:
        data = encode_flac(*given)
        assert b"libFLAC 1." in data
        return data.replace(b"libFLAC 1.", b"libFLAC 9.")

    monkeypatch.setattr(utterance_records, "encode_flac", encoded)
    assert prepare(manifest, out, prepare_config) == first


def spoil(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes([content[1000] ^ 0x40]) + content[1001:])


def relabel(path: Path) -> None:
    path.write_text(path.read_text().replace('"text": "', '"text": "ba ', 1))


def test_stages_take_a_manifest_as_well_as_a_store(tiny_corpus, prepared, prepare_config):
    with utterance_store(tiny_corpus / "valid.jsonl", prepare_config) as store:
        assert store.sha256 == prepared["valid"].sha256
        scratch = store.directory
    assert not scratch.exists()
    with utterance_store(prepared["valid"].directory, prepare_config) as store:
        assert store.directory == prepared["valid"].directory


def test_stages_say_what_they_leave_out_of_a_manifest(bad_manifest, caplog):
    config = PrepareConfig(sample_rate_hz=RATE_HZ, max_rejected_share=0.8)
    with utterance_store(bad_manifest, config) as store:
        assert len(store.index) == 5
    untranscribed, message = caplog.messages
    assert untranscribed == f"{bad_manifest}: 1 of 13 utterances have no transcript"
    assert message.startswith(f"{bad_manifest}: 10 of 15 utterances are unusable (")


def test_no_error_of_a_stage_names_a_folder_that_is_gone(bad_manifest):
    config = PrepareConfig(sample_rate_hz=RATE_HZ, max_rejected_share=0.6)
    with (
        pytest.raises(ManifestError, match="10 of 15 .*tfkd prepare") as raised,
        utterance_store(bad_manifest, config),
    ):
        pass
    assert "rejected.jsonl" not in str(raised.value)


def test_stages_refuse_a_store_of_another_rate(prepared, prepare_config):
    other = replace(prepare_config, sample_rate_hz=16000)
    with (
        pytest.raises(RecordError, match="is at 8000 Hz, the model needs 16000"),
        utterance_store(prepared["valid"].directory, other),
    ):
        pass


def test_stages_refuse_a_damaged_store(prepared, prepare_config, tmp_path):
    copy = shutil.copytree(prepared["valid"].directory, tmp_path / "copy")
    shard = next((copy / "shards").glob("*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with (
        pytest.raises(RecordError, match=shard.name),
        utterance_store(copy, prepare_config),
    ):
        pass


def test_stages_refuse_what_is_not_there(tmp_path, prepare_config):
    with (
        pytest.raises(ManifestError, match="no such file or folder"),
        utterance_store(tmp_path / "absent", prepare_config),
    ):
        pass


# --- what public reports found


def corpus(tmp_path: Path, rows: Iterable[dict], **files: np.ndarray) -> Path:
    for name, frames in files.items():
        soundfile.write(tmp_path / f"{name}.wav", frames, RATE_HZ)
    return write_manifest(tmp_path / "m.jsonl", rows)


def voice(seed: int = 0, seconds: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE_HZ))


def stored(out: Path, utterance_id: str) -> np.ndarray:
    return decode_flac(open_store(out).record(utterance_id).utterance.audio)


def test_channels_that_cancel_are_not_stored_as_silence(tmp_path, caplog):
    frames = np.stack([voice(), -voice()], 1)
    manifest = corpus(tmp_path, [{"audio": "phase.wav", "text": "one two"}], phase=frames)
    prepare(manifest, tmp_path / "out", PrepareConfig(sample_rate_hz=RATE_HZ))
    np.testing.assert_allclose(stored(tmp_path / "out", "phase"), voice(), atol=1e-4)
    assert "phase: its channels cancel each other" in caplog.text
    (row,) = map(json.loads, (tmp_path / "out/remarks.jsonl").read_text().splitlines())
    assert row["utterance_id"] == "phase"


def test_remarks_outlive_a_kill(tmp_path, monkeypatch, caplog):
    """What a finished shard holds is not read again, so its remarks cannot be made again."""
    stereo = {name: np.stack([voice(n), voice(n + 9)], 1) for n, name in enumerate("ab")}
    manifest = corpus(tmp_path, [{"audio": "a.wav"}, {"audio": "b.wav"}], **stereo)
    config = PrepareConfig(sample_rate_hz=RATE_HZ, shard_size=1)
    written = StoreWriter.write_shard

    def killed(writer: StoreWriter, number: int, *given: Any) -> None:
        if number:
            raise KeyboardInterrupt
        written(writer, number, *given)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(manifest, tmp_path / "out", config)
    remarks = tmp_path / "out" / "remarks.jsonl"
    with open(remarks, "a") as file:
        file.write('{"utterance_id": "b", "rem')  # as far as a kill let it come
    (tmp_path / "out" / ".remarks.jsonl.01234567.tmp").touch()
    prepare(manifest, tmp_path / "out", config)
    assert "2 utterances were used although something is odd" in caplog.text
    rows = map(json.loads, remarks.read_text().splitlines())
    assert [row["utterance_id"] for row in rows] == ["a", "b"]
    assert not [*remarks.parent.glob(".remarks*")]


def test_a_speaker_a_channel_is_read_alone(tmp_path):
    rows = [{"id": f"call-{c}", "audio": "call.wav", "text": "one", "channel": c} for c in (0, 1)]
    manifest = corpus(tmp_path, rows, call=np.stack([voice(0), voice(1)], 1))
    prepare(manifest, tmp_path / "out", PrepareConfig(sample_rate_hz=RATE_HZ))
    for channel in (0, 1):
        found = stored(tmp_path / "out", f"call-{channel}")
        np.testing.assert_allclose(found, voice(channel), atol=1e-4)


def test_speakers_that_are_mixed_are_named(tmp_path, caplog):
    manifest = corpus(tmp_path, [{"audio": "call.wav"}], call=np.stack([voice(0), voice(1)], 1))
    prepare(manifest, tmp_path / "out", PrepareConfig(sample_rate_hz=RATE_HZ))
    assert "call: its channels differ" in caplog.text


def test_speakers_that_a_command_hands_on_mixed_are_named(tmp_path, monkeypatch, caplog):
    """In place of sox stands a program of its name, which copies a file to its output."""
    folder = kaldi_folder(tmp_path / "kaldi", "u0 0.flac", "u1 sox 1.flac -t wav - rate 8k |")
    soundfile.write(folder / "call.wav", np.stack([voice(0), voice(1)], 1), RATE_HZ)
    (tmp_path / "sox").write_text(f"#!/bin/sh\ncat '{folder}/call.wav'\n")
    (tmp_path / "sox").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    config = PrepareConfig(sample_rate_hz=RATE_HZ, allow_commands=True)
    prepare(folder, tmp_path / "out", config)
    assert "u1: its channels differ" in caplog.text


def test_audio_of_a_lower_rate_is_remarked_on(tmp_path, caplog):
    rows = [{"id": name, "audio": f"{name}.wav"} for name in "abc"]
    manifest = corpus(tmp_path, rows, a=voice(), b=voice(1), c=voice(2))
    prepare(manifest, tmp_path / "out", PrepareConfig(sample_rate_hz=2 * RATE_HZ))
    remark = f"was recorded at {RATE_HZ} Hz and has nothing above {RATE_HZ // 2} Hz"
    assert (
        f"3 utterances were used although something is odd, for example a and 2 others: {remark}"
        in caplog.text
    )
    caplog.clear()
    prepare(manifest, tmp_path / "same", PrepareConfig(sample_rate_hz=RATE_HZ))
    assert "odd" not in caplog.text


def test_audio_that_16_bits_cannot_hold_is_silent(tmp_path):
    path = tmp_path / "faint.wav"
    soundfile.write(path, voice() / 1e5, RATE_HZ, subtype="FLOAT")
    manifest = write_manifest(tmp_path / "m.jsonl", [{"audio": "faint.wav"}])
    with pytest.raises(ManifestError, match=r"1 silent.*too quiet for 16 bits"):
        prepare(manifest, tmp_path / "out", PrepareConfig(sample_rate_hz=RATE_HZ))


def test_a_muted_microphone_is_an_utterance_in_which_nothing_is_said(tmp_path):
    soundfile.write(tmp_path / "muted.wav", np.zeros(RATE_HZ), RATE_HZ)
    rows = [{"audio": "muted.wav", "text": "", "id": "a"}]
    manifest = write_manifest(tmp_path / "m.jsonl", rows)
    prepare(manifest, tmp_path / "out", PrepareConfig(sample_rate_hz=RATE_HZ))
    (record,) = open_store(tmp_path / "out").records()
    assert (record.text, record.num_samples) == ("", RATE_HZ)
    rows[0]["text"] = "hello"
    write_manifest(manifest, rows)
    with pytest.raises(ManifestError, match=r"1 silent.*nothing but zeros"):
        prepare(manifest, tmp_path / "other", PrepareConfig(sample_rate_hz=RATE_HZ))


def test_empty_placeholder_and_tagged_texts_keep_their_audio(tmp_path, caplog):
    texts = {"nothing": "", "none": None, "dash": "-", "noise": "[noise]", "tag": "Ba <COMMA> di"}
    rows = [{"id": name, "audio": "a.wav", "text": text} for name, text in texts.items()]
    manifest = corpus(tmp_path, rows, a=voice())
    prepare(manifest, tmp_path / "out", PrepareConfig(sample_rate_hz=RATE_HZ))
    found = {row["utterance_id"]: row["text"] for row in open_store(tmp_path / "out").index}
    assert found == {"nothing": "", "none": None, "dash": None, "noise": "", "tag": "ba di"}
    assert "2 of 5 transcripts have tags, which are removed: [noise] (1 x), <COMMA>" in caplog.text
    assert "2 of 5 utterances have no transcript" in caplog.text
    config = PrepareConfig(sample_rate_hz=RATE_HZ, tags="keep")
    prepare(manifest, tmp_path / "kept", config)
    assert open_store(tmp_path / "kept").record("tag").utterance.text == "ba comma di"


def test_symbols_that_are_said_and_dropped_are_counted(tmp_path, caplog):
    texts = {"a": "50% & 20%, 3 \u20ac", "b": "it's \xab fine \xbb!", "c": "ten %", "d": "%HES"}
    rows = [{"id": name, "audio": "a.wav", "text": text} for name, text in texts.items()]
    manifest = corpus(tmp_path, rows, a=voice())
    prepare(manifest, tmp_path / "out", PrepareConfig(sample_rate_hz=RATE_HZ))
    assert "2 of 4 transcripts have symbols that are said and are dropped: % (2 x)" in caplog.text
    assert "1 of 4 transcripts have digits, which stay as they are" in caplog.text
    caplog.clear()
    kept = TextConfig(extra_characters="%&\u20ac")
    prepare(manifest, tmp_path / "kept", PrepareConfig(sample_rate_hz=RATE_HZ, text=kept))
    assert "have symbols" not in caplog.text
    assert open_store(tmp_path / "kept").record("c").utterance.text == "ten %"


def test_characters_that_were_lost_in_another_encoding_are_counted(tmp_path, caplog):
    rows = [{"id": name, "audio": "a.wav", "text": f"na{name}ve"} for name in ("\xef", "\ufffd")]
    prepare(corpus(tmp_path, rows, a=voice()), tmp_path / "out", PrepareConfig())
    assert "1 of 2 transcripts hold U+FFFD" in caplog.text


def test_an_error_in_a_temporary_store_names_the_data(tmp_path):
    manifest = corpus(tmp_path, [{"audio": "a.wav"}], a=voice())
    config = PrepareConfig(sample_rate_hz=RATE_HZ)
    with (
        pytest.raises(RecordError, match=r"^\S*m\.jsonl: has no utterance 'b'"),
        utterance_store(manifest, config) as store,
    ):
        store.record("b")


def test_a_constant_is_silent(tmp_path):
    manifest = corpus(tmp_path, [{"audio": "a.wav"}], a=np.full(RATE_HZ, 0.25))
    with pytest.raises(ManifestError, match=r"1 silent.*one value throughout"):
        prepare(manifest, tmp_path / "out", PrepareConfig(sample_rate_hz=RATE_HZ))


def test_a_recording_of_a_placeholder_text_can_be_cut(tmp_path):
    rows = [{"id": "long", "audio": "long.wav", "text": "-"}]
    manifest = corpus(tmp_path, rows, long=voice(seconds=3.0))
    config = PrepareConfig(sample_rate_hz=RATE_HZ, max_seconds=2.0, too_long="split")
    assert prepare(manifest, tmp_path / "out", config).pieces == 2


def test_rejections_carry_the_remedy_and_the_path(tmp_path):
    (tmp_path / "page.wav").write_text("<!DOCTYPE html><html>404</html>")
    names = ("page.wav", "absent.wav", "a.wav")
    manifest = corpus(tmp_path, [{"audio": name} for name in names], a=voice())
    config = PrepareConfig(sample_rate_hz=RATE_HZ, max_rejected_share=0.9)
    prepare(manifest, tmp_path / "out", config)
    details = {each.utterance_id: each.detail for each in open_store(tmp_path / "out").rejections}
    assert "it is an HTML page (fetch the audio itself" in details["page"]
    assert f"no such file {tmp_path / 'absent.wav'} (relative paths" in details["absent"]


def test_a_refusal_names_the_path_that_was_looked_for(tmp_path):
    manifest = write_manifest(tmp_path / "m.jsonl", [{"audio": "clips/a.wav"}])
    with pytest.raises(ManifestError, match=f"a: no such file {tmp_path}/clips/a.wav"):
        prepare(manifest, tmp_path / "out", PrepareConfig())


@pytest.mark.parametrize(("declared", "is_odd"), [(3.0, False), (2.9, False), (1.0, True)])
def test_a_length_that_is_not_that_of_the_recording_is_named(tmp_path, caplog, declared, is_odd):
    """NeMo reads as much as `duration` says, from the start."""
    rows = [{"audio_filepath": "a.wav", "duration": declared, "text": "one"}]
    manifest = corpus(tmp_path, rows, a=voice(seconds=3.0))
    prepare(manifest, tmp_path / "out", PrepareConfig(sample_rate_hz=RATE_HZ))
    assert ("a: its corpus says that it is 1 s long" in caplog.text) == is_odd
    assert len(stored(tmp_path / "out", "a")) == 3 * RATE_HZ


# --- commands of Kaldi


def has_warned(caplog: pytest.LogCaptureFixture) -> bool:
    """Whether tfkd logged anything; matplotlib, for one, tells of a cache that it builds."""
    return any(record.name == "tfkd" for record in caplog.records)


def kaldi_folder(directory: Path, *lines: str) -> Path:
    directory.mkdir()
    for number in range(2):
        soundfile.write(directory / f"{number}.flac", voice(number), RATE_HZ)
    write_manifest(directory / "wav.scp", lines)
    write_manifest(directory / "text", ["u0 one", "u1 two"])
    return directory


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ("u1 flac -c -d -s 1.flac |", None),
        ("u1 sph2pipe -f wav -p -c 1 1.flac |", None),
        ("u1 cat 1.flac | flac -c -d -s - |", "flac"),
        ("u1 flac -c -d -s 1.flac | cat - |", "flac"),
        (f"u1 sox 1.flac -r {RATE_HZ} -t wav - |", "sox"),
        (f"u1 ffmpeg -v 8 -i 1.flac -ar {RATE_HZ} -f wav - |", "ffmpeg"),
    ],
)
def test_a_kaldi_directory_of_commands_is_one_of_files(tmp_path, line, program, caplog):
    if program is not None and not shutil.which(program):
        pytest.skip(f"needs {program}")
    config = PrepareConfig(sample_rate_hz=RATE_HZ, allow_commands=program is not None)
    commands = kaldi_folder(tmp_path / "commands", "u0 flac -c -d -s 0.flac |", line)
    files = kaldi_folder(tmp_path / "files", "u0 0.flac", "u1 1.flac")
    for folder in (commands, files):
        prepare(folder, tmp_path / f"{folder.name}-out", config)
    shards = [
        sorted((tmp_path / f"{n}-out").glob("shards/*.tfrecord")) for n in ("commands", "files")
    ]
    assert [path.read_bytes() for path in shards[0]] == [path.read_bytes() for path in shards[1]]
    assert not has_warned(caplog)


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ("r sph2pipe -f wav -p r.wav |", None),
        ("r cat r.wav | sox -t wav - -t wav - |", "sox"),
        ("r cat r.flac | flac -c -d -s - |", "flac"),
    ],
)
def test_segments_of_a_command_are_those_of_its_file(tmp_path, line, program, caplog):
    """A part, a part up to the end, and a part of the second channel, of one recording."""
    if program is not None and not shutil.which(program):
        pytest.skip(f"needs {program}")
    config = PrepareConfig(sample_rate_hz=RATE_HZ, allow_commands=program is not None)
    stereo = np.stack([voice(0, seconds=3.0), voice(1, seconds=3.0)], axis=1)
    samples = (stereo * 2**15).astype(np.int16)
    for name, source in (("commands", line), ("files", "r r.wav")):
        folder = tmp_path / name
        folder.mkdir()
        for suffix in ("wav", "flac"):
            soundfile.write(folder / f"r.{suffix}", samples, RATE_HZ)
        write_manifest(folder / "wav.scp", [source])
        segments = ["a r 0.25 1.00 0", "b r 1.50 -1 0", "c r 0.25 1.00 1"]
        write_manifest(folder / "segments", segments)
        prepare(folder, tmp_path / f"{name}-out", config)
    expected = {"a": samples[2000:8000, 0], "b": samples[12000:, 0], "c": samples[2000:8000, 1]}
    for name in ("commands", "files"):
        for utterance_id, own in expected.items():
            assert np.array_equal(stored(tmp_path / f"{name}-out", utterance_id) * 2**15, own)
    assert not has_warned(caplog)


def test_a_command_is_not_run_unless_that_is_allowed(tmp_path):
    folder = kaldi_folder(tmp_path / "kaldi", "u0 0.flac", "u1 sox 1.flac -t wav - rate 8k |")
    config = PrepareConfig(sample_rate_hz=RATE_HZ, max_rejected_share=0.5)
    prepare(folder, tmp_path / "out", config)
    (rejection,) = open_store(tmp_path / "out").rejections
    assert (rejection.utterance_id, rejection.reason) == ("u1", "needs_command")
    assert "--allow-commands" in rejection.detail


def test_a_stage_that_reads_a_corpus_tells_how_its_commands_are_allowed(tmp_path, caplog):
    """label, evaluate and the others have no option for it: the corpus is prepared first."""
    folder = kaldi_folder(tmp_path / "kaldi", "u0 0.flac", "u1 sox 1.flac -t wav - rate 8k |")
    config = PrepareConfig(sample_rate_hz=RATE_HZ, max_rejected_share=0.5)
    with utterance_store(folder, config) as store:
        (rejection,) = store.rejections
    assert "tfkd prepare --allow-commands runs it; give the folder" in rejection.detail


# --- real speech


def test_a_real_kaldi_folder_is_read_whole(shared_data):
    directory = shared_data / "speechocean762" / "dev"
    if not directory.is_dir():
        pytest.skip(f"no {directory}")
    utterances, rejections = read_corpus(directory)
    lines = (directory / "wav.scp").read_text().splitlines()
    assert [u.utterance_id for u in utterances] == [line.split()[0] for line in lines]
    assert rejections == []
    assert all(u.audio.is_file() and u.text and u.speaker for u in utterances)


def test_real_speech_of_a_kaldi_folder_is_prepared(shared_data, tmp_path):
    original = shared_data / "speechocean762" / "dev"
    if not original.is_dir():
        pytest.skip(f"no {original}")
    directory = tmp_path / "dev"
    directory.mkdir()
    # The paths of wav.scp lead to the folder beside it.
    (tmp_path / "audio").symlink_to(original.parent / "audio")
    for name in ("wav.scp", "text", "utt2spk"):
        lines = (original / name).read_text().splitlines()[:12]
        write_manifest(directory / name, lines)
    config = PrepareConfig(shard_size=5)
    assert prepare(directory, tmp_path / "out", config).records == 12
    store = open_store(tmp_path / "out")
    store.verify(deep=True)
    for record in store.records():
        assert isinstance(record, UtteranceRecord)
        assert record.text == record.text.lower()
        assert record.speaker == record.utterance_id.partition("-")[0]
        assert 0.5 < record.num_samples / record.sample_rate_hz < 30
