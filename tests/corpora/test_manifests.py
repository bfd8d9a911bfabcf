"""Manifests of other toolkits: their fields, their forms, and ids where they have none."""

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path

import pytest

from tfkd.corpora import Utterance, read_corpus
from tfkd.errors import ManifestError


def write(path: Path, *rows: dict | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"audio": "a.wav", "sentence": "two"}, {"text": "two"}),
        ({"file_name": "a.wav", "transcription": "two"}, {"text": "two"}),
        ({"audio": {"path": "a.wav", "bytes": None}, "text": "two"}, {"text": "two"}),
        ({"audio_filename": "a.wav", "text": "two"}, {"text": "two"}),
        (
            {"wav": "{data_root}/a.wav", "words": "two", "spk_id": 7},
            {"text": "two", "speaker": "7"},
        ),
        ({"path": "a.wav", "sentence": "two", "client_id": "c"}, {"text": "two", "speaker": "c"}),
        ({"audio": "a.wav", "start": 0.5, "end": 1}, {"start_seconds": 0.5, "end_seconds": 1.0}),
        ({"audio": "a.wav", "start": 0.5, "stop": 1}, {"start_seconds": 0.5, "end_seconds": 1.0}),
        ({"audio": "a.wav", "begin": 2, "duration": 1}, {"start_seconds": 2.0, "end_seconds": 3.0}),
        ({"audio": "a.wav", "channel": 1}, {"channel": 1}),
        ({"audio": "a.wav", "channel_selector": [1]}, {"channel": 1}),
        ({"audio": "a.wav", "channel": "average"}, {}),
        ({"audio": "a.wav", "text": float("nan"), "speaker": float("nan")}, {}),
        ({"audio": "a.wav", "speaker": ["x"], "duration": "long"}, {}),
        ({"audio": "a.wav", "duration": float("nan"), "offset": None}, {}),
        ({"Audio": "a.wav", "Sentence": "two"}, {"text": "two"}),
        ({"audio": "a.wav", " text": "two"}, {"text": "two"}),
        ({"audio": "a.wav", "text": "", "sentence": "two"}, {"text": "two"}),
        ({"audio": "a.wav", "normalized_text": "two", "raw_text": "Two!"}, {"text": "two"}),
        (
            {"audio": "a.wav", "startTime": 1, "endTime": 2},
            {"start_seconds": 1.0, "end_seconds": 2.0},
        ),
        (
            {"audio": "a.wav", "start_sec": 1, "end_sec": 2},
            {"start_seconds": 1.0, "end_seconds": 2.0},
        ),
        (
            {"audio": "a.wav", "start_ms": 1500, "duration_ms": 500},
            {"start_seconds": 1.5, "end_seconds": 2.0},
        ),
        (
            {"audio": "a.wav", "end": 10, "duration": 3},
            {"start_seconds": 7.0, "end_seconds": 10.0},
        ),
        ({"audio": "a.wav", "end_ms": 2500, "duration": 2.504}, {"end_seconds": 2.5}),
        ({"audio": "a.wav", "end": 2.5, "duration": 2.5}, {"end_seconds": 2.5}),
        ({"audio": "a.wav", "channels": [1]}, {"channel": 1}),
        ({"audio": "a.wav", "channel": "B"}, {"channel": 1}),
        ({"audio": "a.wav", "channel": 1.0}, {"channel": 1}),
    ],
)
def test_the_names_of_other_toolkits_are_known(tmp_path, row, expected):
    utterances, rejections = read_corpus(write(tmp_path / "m.jsonl", {**row, "id": "u"}))
    assert rejections == []
    assert utterances == [Utterance("u", tmp_path / "a.wav", **expected)]


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        ({"start_sample": 0, "end_sample": 9}, "start_sample counts samples"),
        ({"frame_offset": 8000, "num_frames": 9}, "frame_offset counts samples"),
        ({"start": 0, "stop": 16000, "duration": 1.0}, "start and stop count samples"),
        ({"onset": 1, "offset": 2}, "both given"),
        ({"start_seconds": 1.0, "start_ms": 9000, "end": 20}, "start_ms differs from another"),
        ({"begin_ms": 1, "start_ms": 2000, "end": 20}, "start_ms differs from another"),
        ({"end": 3, "duration": 10}, "ends at 3 s, but is 10 s long (give its start"),
        ({"end": 3, "duration": 0}, "ends at 3 s, before it starts"),
        ({"audio": {"array": [0.1], "sampling_rate": 16000}}, "names no file"),
        ({"audio": "https://x.org/a.wav"}, "an address, not a file"),
    ],
)
def test_a_part_that_cannot_be_told_is_not_taken_for_the_whole(tmp_path, row, detail):
    """Case: fields of a part that are not known; the text of a part is no text of the whole."""
    path = write(tmp_path / "m.jsonl", {"audio": "a.wav", "text": "x", **row})
    utterances, (rejection,) = read_corpus(path)
    assert utterances == []
    assert detail in rejection.detail


def test_what_may_be_the_transcript_is_named_where_there_is_no_other(tmp_path, caplog):
    rows = [{"audio": "a.wav", "label": "two"}, {"audio": "b.wav", "text": "x", "label": "two"}]
    read_corpus(write(tmp_path / "m.jsonl", *rows))
    (message,) = caplog.messages
    assert "'label' (1 x, call it 'text' if it is the transcript)" in message


def test_of_two_transcripts_it_is_said_which_is_read(tmp_path, caplog):
    row = {"audio": "a.wav", "text": "one", "transcript": "two", "path": "b.wav"}
    ((utterance,), _) = read_corpus(write(tmp_path / "m.jsonl", row))
    assert utterance == Utterance("a", tmp_path / "a.wav", "one")
    (message,) = caplog.messages
    assert "'path' beside 'audio' (1 x), 'transcript' beside 'text' (1 x)" in message


def test_of_two_spellings_of_a_name_the_first_is_read_and_that_is_said(tmp_path, caplog):
    row = {"audio": "a.wav", "Text": "one", "TEXT": "two", "start_ms": 1000, "start": "1.0"}
    row |= {"duration_ms": 1001, "duration_seconds": 1.0005}
    ((utterance,), _) = read_corpus(write(tmp_path / "m.jsonl", {**row, "end": 2}))
    assert (utterance.text, utterance.start_seconds) == ("one", 1.0)
    (message,) = caplog.messages
    assert "'TEXT' beside 'text' (1 x)" in message


def test_an_array_on_one_long_line_is_read(tmp_path):
    """json.dump writes a manifest of a hundred thousand utterances so."""
    rows = [{"audio": f"{n}.wav", "text": "so " * 1000} for n in range(6000)]
    path = write(tmp_path / "m.json", json.dumps(rows))
    assert path.stat().st_size > 1 << 24
    assert len(read_corpus(path)[0]) == 6000


@pytest.mark.parametrize("name", ["m.jsonl", "m.json"])
def test_a_field_that_is_given_twice_is_named(tmp_path, name):
    path = write(tmp_path / name, '{"audio": "a.wav", "text": "x", "text": "y"}')
    ((), (rejection,)) = read_corpus(path)
    assert "'text' is given twice" in rejection.detail


def test_a_column_that_is_there_twice_is_named(tmp_path):
    with pytest.raises(ManifestError, match="two columns are called 'text'"):
        read_corpus(write(tmp_path / "m.csv", "audio,text,text", "a.wav,x,y"))


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("file://{}/a%20b.wav", "a b.wav"),
        ("clips\\a.wav", "clips/a.wav"),
        (" a.wav", "a.wav"),
        ("caf\u00e9.wav", "cafe\u0301.wav"),
        ("cafe\u0301.wav", "caf\u00e9.wav"),
    ],
)
def test_names_as_other_systems_write_them_are_found(tmp_path, name, there):
    write(tmp_path / there)
    path = write(tmp_path / "m.jsonl", {"audio": name.format(tmp_path), "id": "u"})
    assert read_corpus(path)[0] == [Utterance("u", tmp_path / there)]


def test_no_two_files_or_parts_share_an_id_that_was_made(tmp_path):
    """Case: manifests without ids, whose names differ in nothing but the suffix or milliseconds."""
    rows = [{"audio": "x/a.wav"}, {"audio": "x/a.flac"}, {"audio": "y.wav"}]
    rows += [{"audio": "z.wav", "start": n / 1000, "duration": 0.001} for n in (1, 2)]
    rows += [{"audio": "b.wav", "id": "y"}]
    utterances, rejections = read_corpus(write(tmp_path / "m.json", *rows))
    assert rejections == []
    ids = [each.utterance_id for each in utterances]
    assert ids[:3] == ["x/a.wav", "x/a.flac", "y.wav"]
    assert ids[3:] == ["z.wav-0.001-0.002", "z.wav-0.002-0.003", "y"]


@pytest.mark.parametrize("suffix", ["ndjson", "manifest", "txt"])
def test_the_content_tells_the_form_where_the_name_does_not(tmp_path, suffix):
    path = write(tmp_path / f"m.{suffix}", {"audio": "a.wav"})
    assert read_corpus(path)[0] == [Utterance("a", tmp_path / "a.wav")]


@pytest.mark.parametrize(
    ("head", "what"), [(b"BZh9", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"PAR1", "Parquet")]
)
def test_what_is_no_manifest_is_named_for_what_it_is(tmp_path, head, what):
    (tmp_path / "m.jsonl.x").write_bytes(head)
    with pytest.raises(ManifestError, match=what):
        read_corpus(tmp_path / "m.jsonl.x")


def test_names_that_are_not_known_are_named_once(tmp_path, caplog):
    rows = [{"audio": f"{n}.wav", "txt": "one", "duration": 1, "up_votes": 2} for n in range(3)]
    utterances, _ = read_corpus(write(tmp_path / "m.jsonl", *rows))
    assert [each.text for each in utterances] == [None] * 3
    (message,) = caplog.messages
    assert "'txt' (3 x, did you mean 'text'?)" in message
    assert "up_votes" not in message


def test_what_is_known_needs_no_warning(tmp_path, caplog):
    row = {"audio_filepath": "a.wav", "duration": 1.5, "text": "x", "lang": "en", "gender": "f"}
    read_corpus(write(tmp_path / "m.json", row))
    assert caplog.messages == []


def test_parts_of_one_file_get_ids_of_their_own(tmp_path):
    rows = [{"audio_filepath": "talk.wav", "offset": n, "duration": 1.0} for n in (0.0, 1.0)]
    rows.append({"audio_filepath": "other.wav"})
    utterances, rejections = read_corpus(write(tmp_path / "m.json", *rows))
    ids = [each.utterance_id for each in utterances]
    assert ids == ["talk-0.00-1.00", "talk-1.00-2.00", "other"]
    assert rejections == []


def test_files_of_one_name_get_ids_of_their_own(tmp_path):
    names = ["s1/SA1.wav", "s2/SA1.wav", "s2/SA2.wav", "/x/SA1.wav"]
    rows = [{"audio_filepath": name, "duration": 1.0} for name in names]
    utterances, _ = read_corpus(write(tmp_path / "m.json", *rows))
    assert [each.utterance_id for each in utterances] == ["s1/SA1", "s2/SA1", "SA2", "x/SA1"]


def test_channels_of_one_file_get_ids_of_their_own(tmp_path):
    rows = [{"audio": "call.wav", "channel": channel} for channel in (0, 1)]
    utterances, _ = read_corpus(write(tmp_path / "m.jsonl", *rows))
    assert [each.utterance_id for each in utterances] == ["call-channel0", "call-channel1"]


def test_common_voice_of_several_folders_keeps_its_ids_apart(tmp_path):
    path = write(tmp_path / "t.tsv", "path\tsentence", "a/1.mp3\tone", "b/1.mp3\ttwo")
    assert [each.utterance_id for each in read_corpus(path)[0]] == ["a/1", "b/1"]


def test_clips_may_be_named_with_their_folder(tmp_path):
    path = write(tmp_path / "t.tsv", "path\tsentence", "clips/x.wav\tone")
    write(tmp_path / "clips/x.wav")
    assert read_corpus(path)[0] == [Utterance("x", tmp_path / "clips/x.wav", "one")]


ROWS = [{"audio": "a.wav", "text": "one"}, {"audio": "b.wav", "text": "two"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("array.json", json.dumps(ROWS)),
        ("array.jsonl", json.dumps(ROWS, indent=2)),
        ("pretty.json", "\n".join(json.dumps(row, indent=2) for row in ROWS)),
        ("objects.json", "  " + json.dumps(ROWS[0], indent=4) + json.dumps(ROWS[1])),
        ("lines.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("speechbrain.json", json.dumps({"a": {"wav": "a.wav", "words": "one", "length": 1.0},
                                         "b": {"wav": "b.wav", "words": "two"}}, indent=2)),
        ("speechbrain2.json", json.dumps({"a": {"wav": "{data_root}/a.wav", "wrd": "one"},
                                          "b": {"wav": "b.wav", "wrd": "two"}})),
        ("sb.csv", "ID,duration,wav,spk_id,wrd\na,1.0,$data_root/a.wav,,one\nb,1.0,b.wav,,two\n"),
        ("hf.csv", 'file_name,transcription\na.wav,"one"\r\nb.wav,two'),
        ("semicolon.csv", "Audio;Text\na.wav;one\nb.wav;two\n"),
        ("coqui.csv", "audio_file|text|speaker_name\na.wav|one|\nb.wav|two|\n"),
        ("data.json", json.dumps({"version": 1, "data": ROWS})),
        ("ds.tsv", "wav_filename\twav_filesize\ttranscript\na.wav\t9\tone\nb.wav\t9\ttwo\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_packed", [False, True])
def test_every_form_is_read(tmp_path, name, content, is_packed):
    path = tmp_path / (f"{name}.gz" if is_packed else name)
    data = content.encode("utf-8-sig")
    path.write_bytes(gzip.compress(data) if is_packed else data)
    assert read_corpus(path) == (
        [Utterance("a", tmp_path / "a.wav", "one"), Utterance("b", tmp_path / "b.wav", "two")],
        [],
    )


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_folders_of_hugging_face_are_read(tmp_path, name):
    lines = ["file_name,transcription", "a.wav,one"]
    rows = lines if name.endswith("csv") else [{"file_name": "a.wav", "transcription": "one"}]
    write(tmp_path / name, *rows)
    assert read_corpus(tmp_path)[0] == [Utterance("a", tmp_path / "a.wav", "one")]


def cut(**changes) -> dict:
    recording = {
        "id": "r",
        "sources": [{"type": "file", "channels": [0, 1], "source": "a.wav"}],
        "sampling_rate": 16000,
        "num_samples": 160000,
        "duration": 10.0,
    }
    supervision = {"id": "s", "recording_id": "r", "start": 0.5, "duration": 2.0, "text": "one"}
    return {
        "id": "c",
        "start": 3.0,
        "duration": 4.0,
        "channel": 1,
        "type": "MonoCut",
        "supervisions": [{**supervision, "speaker": "p"}],
        "recording": recording,
        **changes,
    }


def test_cuts_of_lhotse_are_read(tmp_path):
    path = tmp_path / "cuts.jsonl.gz"
    rows = [cut(), cut(id="d", supervisions=[])]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    audio = tmp_path / "a.wav"
    assert read_corpus(path) == (
        [
            Utterance("c", audio, "one", "p", 3.5, 5.5, channel=1),
            Utterance("d", audio, None, None, 3.0, 7.0, channel=1),
        ],
        [],
    )


def test_recordings_of_lhotse_are_audio_without_text(tmp_path):
    path = write(tmp_path / "recordings.jsonl", cut()["recording"])
    assert read_corpus(path)[0] == [Utterance("r", tmp_path / "a.wav")]


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        (cut()["supervisions"][0], "names no audio"),
        (cut(supervisions=cut()["supervisions"] * 2), "not one supervision"),
        (cut(recording={"sources": [{"type": "url", "source": "http://x"}]}), "of type 'url'"),
        (cut(recording=None), "names no recording"),
        (cut(channel=[0, 1]), "channel [0, 1] is not"),
        (cut(channel=0, supervisions=[{**cut()["supervisions"][0], "channel": 1}]), "of channel 1"),
        (cut(recording={**cut()["recording"], "transforms": [{"name": "Speed"}]}), "changed"),
        ({"id": "m", "type": "MixedCut", "tracks": [{"cut": cut(), "offset": 0}]}, "mixes several"),
    ],
)
def test_what_lhotse_has_and_tfkd_has_not_is_named(tmp_path, row, detail):
    _, (rejection,) = read_corpus(write(tmp_path / "m.jsonl", row))
    assert detail in rejection.detail


def test_a_recording_id_makes_no_row_of_lhotse(tmp_path, caplog):
    path = write(tmp_path / "m.jsonl", {"audio": "a.wav", "recording_id": "r1", "text": "yes"})
    assert read_corpus(path) == ([Utterance("a", tmp_path / "a.wav", "yes")], [])
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["utterance", "utt"])
def test_words_in_a_field_that_may_be_an_id_are_not_taken_for_one(tmp_path, name):
    rows = {"audio": "a.wav", name: "turn on the light"}, {"audio": "b.wav", name: "b1"}
    utterances, (rejection,) = read_corpus(write(tmp_path / "m.jsonl", *rows))
    assert [each.utterance_id for each in utterances] == ["b1"]
    assert "may be an id or a transcript (call it utterance_id or text)" in rejection.detail


def test_an_id_that_is_given_twice_in_an_object_of_utterances_is_named(tmp_path):
    rows = ",\n".join(f'"u{n % 20000}": {{"wav": "{n}.wav"}}' for n in range(20001))
    (tmp_path / "data.json").write_text(f"{{\n{rows}\n}}")
    with pytest.raises(ManifestError, match="data.json: 'u0' is given twice"):
        read_corpus(tmp_path / "data.json")


def test_a_folder_in_place_of_audio_is_an_utterance_without_a_name(tmp_path):
    rows = {"audio": ".", "channel": 0}, {"audio": ".", "channel": 1}
    utterances, _ = read_corpus(write(tmp_path / "m.jsonl", *rows))
    assert len({each.utterance_id for each in utterances}) == 2


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("[" * 5000, "not JSON"),
        ("\0", "not JSON"),
        ("{" * 9000, "not JSON"),
        ("00", "not"),
        ("[5, 6]", "not a JSON obj"),
    ],
)
def test_what_is_no_manifest_is_one_line(tmp_path, line, detail):
    _, (rejection,) = read_corpus(write(tmp_path / "m.jsonl", line))
    assert detail in rejection.detail
    assert "\n" not in rejection.detail


def test_the_place_of_a_fault_is_the_line_of_the_file_and_a_column(tmp_path):
    path = write(tmp_path / "m.jsonl", {"audio": "a.wav"}, '{"audio": "b.wav" "text": "b"}')
    _, (rejection,) = read_corpus(path)
    assert rejection.source == f"{path}:2"
    assert "Expecting ',' delimiter: column 19 (" in rejection.detail


def test_a_row_of_other_length_is_rejected(tmp_path):
    path = write(tmp_path / "t.csv", "ID,wav,wrd", "a,a.wav,one", "b,b.wav")
    utterances, (rejection,) = read_corpus(path)
    assert len(utterances) == 1
    assert rejection.source.endswith("t.csv:3")
    assert rejection.detail.startswith("2 cells where the first line has 3 (")


def test_a_quote_that_is_not_closed_takes_no_lines_with_it(tmp_path):
    path = write(tmp_path / "m.csv", "audio,text", "a.wav,one", 'b.wav,"two', "c.wav,three")
    with pytest.raises(ManifestError, match=r"m.csv: line 3: .*close its quotes"):
        read_corpus(path)


@pytest.mark.parametrize("name", ["m.csv", "m.tsv"])
def test_separators_of_lines_within_a_cell_end_no_row(tmp_path, name):
    parted = "," if name.endswith("csv") else "\t"
    rows = (f"a.wav{parted}one\u2028two", f"b.wav{parted}three\x85")
    utterances, _ = read_corpus(write(tmp_path / name, f"audio{parted}text", *rows))
    assert [each.text for each in utterances] == ["one\u2028two", "three\x85"]


def test_a_table_without_audio_names_its_columns(tmp_path):
    with pytest.raises(ManifestError, match="names no column of audio: id, words"):
        read_corpus(write(tmp_path / "t.csv", "id,words", "a,b"), "table")


def test_a_damaged_gzip_file_is_named(tmp_path):
    path = tmp_path / "m.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"audio": "a.wav"}\n' * 100)[:-20])
    with pytest.raises(ManifestError, match="m.jsonl.gz: cannot read"):
        read_corpus(path)


def test_a_file_without_line_ends_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "m.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * (1 << 25)))
    with pytest.raises(ManifestError, match="line 1 is longer than"):
        read_corpus(path)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refused(path: Path, **_: bool) -> bool:
        if path == tmp_path:
            return True
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refused)
    with pytest.raises(ManifestError) as caught:
        read_corpus(tmp_path)
    said = "cannot read: Permission denied (check its path and permissions)"
    assert str(caught.value) == f"{tmp_path / 'wav.scp'}: {said}"
