"""Every layout is read, and every line that is of no use is accounted for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfkd.corpora import FORMATS, Corpus, Utterance, read_corpus
from tfkd.errors import ManifestError

DATA = Path(os.environ.get("TFKD_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogatepass"))
    return path


def write_jsonl(directory: Path, *rows: dict) -> Path:
    return write(directory / "manifest.jsonl", *map(json.dumps, rows))


def reasons(corpus: Corpus) -> list[tuple[str, str]]:
    """The id and the reason of each rejection, which must all carry a remedy in parentheses."""
    assert all(rejection.detail.endswith(")") for rejection in corpus[1])
    return [(rejection.utterance_id, rejection.reason) for rejection in corpus[1]]


def kaldi(directory: Path, **files: list[str]) -> Path:
    files.setdefault("wav_scp", ["u1 a/1.wav", "u2 a/2.wav"])
    for name, lines in files.items():
        write(directory / name.replace("wav_", "wav."), *lines)
    return directory


# --- in general


def test_an_unknown_format_names_the_known_ones(tmp_path):
    with pytest.raises(ManifestError, match="use one of auto, jsonl, kaldi"):
        read_corpus(tmp_path, "csv")


@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_corpus_is_refused(tmp_path, format):
    with pytest.raises(ManifestError, match="absent: no such file"):
        read_corpus(tmp_path / "absent", format)


@pytest.mark.parametrize("name", ["manifest.txt", "folder"])
def test_what_looks_like_no_format_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "train.tsv", "x")
    write(tmp_path / "manifest.txt", "x")
    with pytest.raises(ManifestError, match="cannot tell the format"):
        read_corpus(tmp_path / name)


@pytest.mark.parametrize("format", FORMATS[1:])
def test_an_empty_folder_is_refused(tmp_path, format):
    with pytest.raises(ManifestError):
        read_corpus(tmp_path, format)


def test_an_empty_folder_is_called_so(tmp_path):
    with pytest.raises(ManifestError, match="is an empty folder"):
        read_corpus(tmp_path)


def test_a_table_of_unknown_columns_is_not_taken_for_ljspeech(tmp_path):
    """Whose metadata.csv has no header: here every line would be called a bad one."""
    table = write(tmp_path / "metadata.csv", "Datei;Satz", "a.wav;Guten Tag")
    with pytest.raises(ManifestError, match="Datei"):
        read_corpus(table)


@pytest.mark.parametrize(
    ("name", "format"),
    [("m.jsonl", "jsonl"), ("metadata.csv", "ljspeech"), ("a.trans.txt", "librispeech")],
)
def test_an_empty_manifest_is_refused(tmp_path, name, format):
    with pytest.raises(ManifestError, match="no utterances"):
        read_corpus(write(tmp_path / name, "", "  "), format)


@given(st.binary(max_size=200), st.sampled_from(["jsonl", "librispeech", "ljspeech"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_line_of_any_bytes_is_accounted_for(tmp_path, content, format):
    path = tmp_path / "manifest"
    path.write_bytes(content)
    lines = [line for line in content.split(b"\n") if line.strip()]
    if not lines or content.startswith(b"\x1f\x8b"):
        with pytest.raises(ManifestError):
            read_corpus(path, format)
        return
    utterances, rejections = read_corpus(path, format)
    assert len(utterances) + len(rejections) == len(lines)
    assert len({utterance.utterance_id for utterance in utterances}) == len(utterances)


# --- JSONL


def test_jsonl_fields(tmp_path):
    path = write_jsonl(
        tmp_path,
        {"utterance_id": "u1", "audio": "a/1.wav", "text": "Hi", "speaker": "s", "duration": 1.5},
        {"id": 7, "audio_filepath": "/abs/2.flac", "duration_seconds": 2},
        {"audio": "b/some name.ogg", "text": None, "speaker": 3},
        {"audio": "3.wav", "offset": 1.5, "duration": 2},
        {"audio": "4.wav", "offset": 0},
        {"audio": "5.wav", "start_seconds": 1, "end_seconds": 2.5, "duration": 9},
        {"audio": "6.wav", "text": ""},
        {"audio": "8.wav", "start_seconds": 3, "duration_seconds": 2},
    )
    assert read_corpus(path) == (
        [
            Utterance("u1", tmp_path / "a/1.wav", "Hi", "s"),
            Utterance("7", Path("/abs/2.flac")),
            Utterance("some name", tmp_path / "b/some name.ogg", None, "3"),
            Utterance("3", tmp_path / "3.wav", start_seconds=1.5, end_seconds=3.5),
            Utterance("4", tmp_path / "4.wav", start_seconds=0.0),
            Utterance("5", tmp_path / "5.wav", start_seconds=1.0, end_seconds=2.5),
            Utterance("6", tmp_path / "6.wav", ""),
            Utterance("8", tmp_path / "8.wav", start_seconds=3.0, end_seconds=5.0),
        ],
        [],
    )


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('["a.wav"]', "not a JSON object"),
        ('{"text": "a"}', "no audio field"),
        ('{"audio": ["a.wav"]}', "audio is not a string"),
        ('{"audio": ""}', "no usable path"),
        ('{"audio": "a\\u0000.wav"}', "no usable path"),
        ('{"audio": "\\ud800.wav"}', "no usable path"),
        ('{"audio": "../a.wav"}', "leaves the folder"),
        ('{"audio": "a.wav", "text": "\\udc80"}', "text '\\udc80' holds half of a character"),
        ('{"audio": "a.wav", "id": ""}', "id is empty"),
        ('{"audio": "a.wav", "id": "a\\nb"}', "no usable id"),
        ('{"audio": "a.wav", "id": "\\udc80"}', "no usable id"),
        ('{"audio": "a.wav", "id": true}', "id is not a string"),
        ('{"audio": "a.wav", "text": 1.5}', "text is not a string"),
        ('{"audio": "a.wav", "offset": 1, "duration": "long"}', "duration 'long' is not a number"),
        ('{"audio": "a.wav", "offset": 1, "duration": -1}', "duration -1 is not a number"),
        ('{"audio": "a.wav", "offset": Infinity}', "offset inf is not a number"),
        ('{"audio": "a.wav", "offset": 1, "duration": true}', "duration True is not a number"),
        ('{"audio": "a.wav", "offset": 1' + "0" * 400 + "}", "is not a number"),
        ('{"audio": "a.wav", "start_seconds": 2, "end_seconds": 1}', "before it starts"),
        ('{"audio": "a.wav", "offset": 2, "duration": 0}', "before it starts"),
        ('{"audio": "a.wav", "offset": 2, "start_seconds": 1}', "offset are both given"),
        ('{"audio": "a.wav", "channel": "middle"}', "channel 'middle' is not a whole number"),
        ('{"audio": {"file": "a.wav", "start": 0, "stop": 16000}}', "in samples"),
    ],
)
def test_a_bad_line_is_rejected_and_the_rest_is_read(tmp_path, line, detail):
    path = write(tmp_path / "m.jsonl", '{"audio": "1.wav"}', "", line, '{"audio": "2.wav"}')
    utterances, (rejection,) = read_corpus(path)
    assert [utterance.utterance_id for utterance in utterances] == ["1", "2"]
    assert (rejection.utterance_id, rejection.reason) == ("m.jsonl:3", "bad_line")
    assert rejection.source == f"{path}:3"
    assert detail in rejection.detail


def test_a_line_that_is_not_utf8_is_rejected(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"audio": "1.wav"}\n{"audio": "2.wav", "text": "caf\xe9"}\n')
    corpus = read_corpus(path)
    assert reasons(corpus) == [("m.jsonl:2", "bad_line")]
    assert "not UTF-8" in corpus[1][0].detail


def test_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"audio": "1.wav"}\r\n\r\n{"audio": "2.wav"}')
    assert [utterance.utterance_id for utterance in read_corpus(path)[0]] == ["1", "2"]


def test_unusual_line_separators_stay_in_the_text(tmp_path):
    path = write(tmp_path / "m.jsonl", '{"audio": "1.wav", "text": "a\u2028b\u0085c"}')
    assert read_corpus(path)[0][0].text == "a\u2028b\u0085c"


def test_the_second_use_of_an_id_is_rejected(tmp_path):
    rows = [{"audio": "a/1.wav", "text": str(i)} for i in range(3)]
    utterances, rejections = corpus = read_corpus(write_jsonl(tmp_path, *rows))
    assert [utterance.text for utterance in utterances] == ["0"]
    assert reasons(corpus) == [("1", "duplicate_id")] * 2
    assert rejections[0].source.endswith(":2")


def test_only_rejections_are_a_corpus_too(tmp_path):
    assert reasons(read_corpus(write(tmp_path / "m.jsonl", "x"))) == [("m.jsonl:1", "bad_line")]


# --- Kaldi


def test_kaldi_without_segments(tmp_path):
    directory = kaldi(
        tmp_path / "dev",
        wav_scp=["u1 a/1.wav", "u2\t../audio/2 b.ogg", "u3   /abs/3.flac"],
        text=["u1 HELLO  WORLD", "u3", "u2 ÉTÉ"],
        utt2spk=["u1 s1", "u3 s3"],
    )
    assert read_corpus(directory) == (
        [
            Utterance("u1", directory / "a/1.wav", "HELLO  WORLD", "s1"),
            Utterance("u2", tmp_path / "audio/2 b.ogg", "ÉTÉ"),
            Utterance("u3", Path("/abs/3.flac"), "", "s3"),
        ],
        [],
    )


def test_kaldi_needs_no_text(tmp_path):
    utterances, rejections = read_corpus(kaldi(tmp_path))
    assert [utterance.text for utterance in utterances] == [None, None]
    assert not rejections


def test_a_relative_kaldi_folder(tmp_path, monkeypatch):
    kaldi(tmp_path / "dev", wav_scp=["u1 ../audio/1.wav"])
    monkeypatch.chdir(tmp_path / "dev")
    assert read_corpus(".")[0][0].audio == tmp_path / "audio/1.wav"


def test_kaldi_segments(tmp_path):
    directory = kaldi(
        tmp_path,
        segments=["s1 u1 0 1.5", "s2 u1 1.50 2.75", "s3 u2 3 -1", "s1 u2 0 1"]
        + ["s4 u9 0 1", "s5 u1 2 1", "s6 u1 x 1", "s7 u1 1", "s8 u1 0 1", "s9 u2 1 -1.00"]
        + ["s10 u2 0 1 1", "s11 u2 0 1 middle"],
        text=["s1 a", "s2 b", "s3 c", "s7 d", "s12 e"],
    )
    utterances, rejections = corpus = read_corpus(directory)
    first, second = directory / "a/1.wav", directory / "a/2.wav"
    assert utterances == [
        Utterance("s1", first, "a", None, 0.0, 1.5),
        Utterance("s2", first, "b", None, 1.5, 2.75),
        Utterance("s3", second, "c", None, 3.0, None),
        Utterance("s8", first, None, None, 0.0, 1.0),
        Utterance("s9", second, None, None, 1.0, None),
        Utterance("s10", second, None, None, 0.0, 1.0, channel=1),
    ]
    assert reasons(corpus) == [
        ("s1", "duplicate_id"),
        ("s4", "bad_line"),
        ("s5", "bad_line"),
        ("s6", "bad_line"),
        ("s7", "bad_line"),
        ("s11", "bad_line"),
        ("s12", "missing_file"),
    ]
    assert "recording u9 is not in wav.scp" in rejections[1].detail


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("u2 raw.ark:1234", "archive"),
        ("u2 a.ark:12[0:9]", "archive"),
        ("u2 wget -O - http://x |", "none of the programs"),
        ("u2", "no path"),
    ],
)
def test_a_line_that_cannot_be_read_costs_its_utterance_alone(tmp_path, line, detail):
    directory = kaldi(tmp_path, wav_scp=["u1 1.wav", line, "u3 3.wav"])
    utterances, (rejection,) = read_corpus(directory)
    assert [each.utterance_id for each in utterances] == ["u1", "u3"]
    assert (rejection.utterance_id, rejection.reason) == ("u2", "bad_line")
    assert detail in rejection.detail
    assert rejection.source.endswith("wav.scp:2")


def test_a_fault_of_a_recording_is_counted_with_its_segments(tmp_path):
    directory = kaldi(
        tmp_path,
        wav_scp=["r1 1.wav", "r2 x.ark:5", "r3"],
        segments=["a r1 0 1", "b r2 0 1", "c r2 1 2", "d r3 0 1"],
        text=["a one", "b two", "c three", "d four"],
    )
    utterances, _ = corpus = read_corpus(directory)
    assert [each.utterance_id for each in utterances] == ["a"]
    assert reasons(corpus) == [(name, "bad_line") for name in "bcd"]


def test_one_bad_line_is_counted_once(tmp_path):
    """Three of a hundred are three of a hundred, so that a limit of 5 % accepts them."""
    ids = [f"u{number:03d}" for number in range(100)]
    starts = [0.5 if number < 3 else number / 10 for number in range(100)]
    directory = kaldi(
        tmp_path,
        wav_scp=["r1 r1.wav"],
        text=[f"{name} one two" for name in ids],
        segments=[
            f"{name} r1 {start} {0.5 if number < 3 else start + 1}"
            for number, (name, start) in enumerate(zip(ids, starts, strict=True))
        ],
    )
    utterances, _ = corpus = read_corpus(directory)
    assert len(utterances) == 97
    assert reasons(corpus) == [(name, "bad_line") for name in ids[:3]]


def test_kaldi_rejections(tmp_path):
    directory = kaldi(
        tmp_path / "a" / "b",
        wav_scp=["u1 1.wav", "u1 again.wav", "u2", "u3 ../../../etc/x.wav", "u4 4.wav", "u5 5.wav"],
        text=["u1 a", "u1 b", "u2 c", "u3 d", "u4 e", "u4 e", "u6 f"],
        utt2spk=["u4 s", "u4 t"],
    )
    utterances, _ = corpus = read_corpus(directory)
    assert [(item.utterance_id, item.text, item.speaker) for item in utterances] == [
        ("u4", "e", "s"),
        ("u5", None, None),
    ]
    assert reasons(corpus) == [
        ("u1", "duplicate_id"),
        ("u1", "duplicate_id"),
        ("u2", "bad_line"),
        ("u3", "bad_line"),
        ("u6", "missing_file"),
    ]


def test_kaldi_lines_that_are_not_utf8_are_rejected(tmp_path, caplog):
    directory = kaldi(tmp_path, text=["u1 a"], utt2spk=["u1 s"])
    for name in ("text", "utt2spk"):
        with open(directory / name, "ab") as file:
            file.write(b"u2 \xff\n")
    assert reasons(read_corpus(directory)) == [("u2", "bad_line")]
    assert "utt2spk: 1 lines cannot be read" in caplog.text


def test_a_text_for_some_leaves_the_rest_untranscribed(tmp_path):
    directory = kaldi(tmp_path, wav_scp=["a a.wav", "b b.wav"], text=["a one two"])
    utterances, rejections = read_corpus(directory)
    assert [each.text for each in utterances] == ["one two", None]
    assert rejections == []


def test_kaldi_paths_may_be_seen_from_the_working_folder(tmp_path, monkeypatch):
    directory = kaldi(
        tmp_path / "data/train", wav_scp=["a downloads/a.wav", "b b.wav", "c absent.wav"]
    )
    for path in (tmp_path / "downloads/a.wav", directory / "b.wav"):
        write(path, "")
    monkeypatch.chdir(tmp_path)
    utterances, _ = read_corpus("data/train")
    assert [each.audio for each in utterances] == [
        tmp_path / "downloads/a.wav",
        directory / "b.wav",
        directory / "absent.wav",
    ]


@pytest.mark.parametrize("is_shared", [True, False])
def test_sides_of_a_call_are_channels_where_they_share_a_file(tmp_path, is_shared):
    names = ["call.wav", "call.wav"] if is_shared else ["a.wav", "b.wav"]
    directory = kaldi(
        tmp_path,
        wav_scp=[f"call-{side} {name}" for side, name in zip("AB", names, strict=True)],
        reco2file_and_channel=["call-A call A", "call-B call B"],
    )
    found = [each.channel for each in read_corpus(directory)[0]]
    assert found == ([0, 1] if is_shared else [None, None])


@pytest.mark.parametrize("side", ["B", "b", "right"])
def test_a_side_is_called_as_in_manifests(tmp_path, side):
    directory = kaldi(
        tmp_path,
        wav_scp=["call-A call.wav", "call-B call.wav"],
        reco2file_and_channel=["call-A call A", f"call-B call {side}"],
    )
    assert [each.channel for each in read_corpus(directory)[0]] == [0, 1]


def test_a_directory_may_be_named_from_inside_of_it(tmp_path, monkeypatch):
    kaldi(tmp_path / "data" / "train", wav_scp=["u1 ../audio/1.wav"])
    write(tmp_path / "data" / "audio" / "1.wav", "RIFF")
    (tmp_path / "data" / "train" / "split").mkdir()
    monkeypatch.chdir(tmp_path / "data" / "train" / "split")
    (utterance,), rejections = read_corpus(Path(".."))
    assert (utterance.audio, rejections) == (tmp_path / "data" / "audio" / "1.wav", [])


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("call-B call 2", "'call 2' does not end in A or B"),
        ("call-B", "'' does not end in A or B"),
        ("call-B call A\ncall-B call B", "says two things of call-B"),
    ],
)
def test_a_side_that_cannot_be_told_is_a_fault_of_its_recording_alone(tmp_path, line, detail):
    directory = kaldi(
        tmp_path,
        wav_scp=["call-A call.wav", "call-B call.wav"],
        reco2file_and_channel=["call-A call A", line],
    )
    utterances, [rejection] = read_corpus(directory)
    assert [(each.utterance_id, each.channel) for each in utterances] == [("call-A", 0)]
    assert (rejection.utterance_id, rejection.reason) == ("call-B", "bad_line")
    assert detail in rejection.detail


def test_a_side_that_cannot_be_told_does_not_matter_where_segments_name_the_channel(tmp_path):
    directory = kaldi(
        tmp_path,
        wav_scp=["call-1 call.wav", "call-2 call.wav"],
        segments=["u1 call-1 0 1 0", "u2 call-2 0 1 1"],
        reco2file_and_channel=["call-1 call 1", "call-2 call 2"],
    )
    utterances, rejections = read_corpus(directory)
    assert [(each.utterance_id, each.channel) for each in utterances] == [("u1", 0), ("u2", 1)]
    assert not rejections


def test_a_folder_without_wav_scp_is_no_kaldi_directory(tmp_path):
    with pytest.raises(ManifestError, match=r"no wav\.scp"):
        read_corpus(tmp_path, "kaldi")


# --- LibriSpeech, Common Voice, LJSpeech


def test_librispeech(tmp_path):
    write(tmp_path / "84/121/84-121.trans.txt", "84-121-0000 GO DO YOU HEAR", "84-121-0001 BUT")
    write(tmp_path / "19/2/19-2.trans.txt", "19-2-0000 A", "19-2-0000 B", "19-2-0001", "../x C")
    (tmp_path / "84/121/84-121-0001.wav").touch()
    utterances, _ = corpus = read_corpus(tmp_path)
    assert utterances == [
        Utterance("19-2-0000", tmp_path / "19/2/19-2-0000.flac", "A", "19"),
        Utterance("19-2-0001", tmp_path / "19/2/19-2-0001.flac", "", "19"),
        Utterance("84-121-0000", tmp_path / "84/121/84-121-0000.flac", "GO DO YOU HEAR", "84"),
        Utterance("84-121-0001", tmp_path / "84/121/84-121-0001.wav", "BUT", "84"),
    ]
    assert reasons(corpus) == [("19-2-0000", "duplicate_id"), ("19-2.trans.txt:4", "bad_line")]


def test_linked_folders_of_librispeech_are_read_once(tmp_path):
    write(tmp_path / "disk/19/2/19-2.trans.txt", "19-2-0000 A")
    tree = tmp_path / "tree"
    write(tree / "84/121/84-121.trans.txt", "84-121-0000 B")
    (tree / "19").symlink_to(tmp_path / "disk/19")
    (tree / "again").symlink_to(tree / "84")
    (tree / "84/loop").symlink_to(tree)
    utterances, rejections = read_corpus(tree)
    assert [each.utterance_id for each in utterances] == ["19-2-0000", "84-121-0000"]
    assert rejections == []


def test_commonvoice(tmp_path):
    path = write(
        tmp_path / "validated.tsv",
        "client_id\tpath\tsentence_id\tsentence\tage",
        'c1\tcommon_voice_en_1.mp3\t\tHe said "yes.\t',
        "c2\tcommon_voice_en_2\t\tNo.\t",
        "\tcommon_voice_en_3.mp3\t\t\t",
        "c1\tshort line",
        "c1\t\t\tno path\t",
        "c1\tcommon_voice_en_1.mp3\t\tagain\t",
    )
    utterances, _ = corpus = read_corpus(path)
    clips = tmp_path / "clips"
    assert utterances == [
        Utterance("common_voice_en_1", clips / "common_voice_en_1.mp3", 'He said "yes.', "c1"),
        Utterance("common_voice_en_2", clips / "common_voice_en_2.mp3", "No.", "c2"),
        Utterance("common_voice_en_3", clips / "common_voice_en_3.mp3"),
    ]
    assert reasons(corpus) == [
        ("validated.tsv:5", "bad_line"),
        ("validated.tsv:6", "bad_line"),
        ("common_voice_en_1", "duplicate_id"),
    ]


@pytest.mark.parametrize("header", ["client_id\tpath", "path,sentence"])
def test_a_tsv_without_the_columns_is_refused(tmp_path, header):
    with pytest.raises(ManifestError, match="names no column .*sentence"):
        read_corpus(write(tmp_path / "train.tsv", header))


def test_other_fields_in_a_tsv_of_common_voice_count(tmp_path):
    lines = ("path\tsentence\tstart\tend", "a.wav\thello\t0\t0.4", "a.wav\tthere\t0.5\t0.9")
    utterances, rejections = read_corpus(write(tmp_path / "parts.tsv", *lines))
    assert rejections == []
    assert [(each.text, each.start_seconds, each.end_seconds) for each in utterances] == [
        *(("hello", 0.0, 0.4), ("there", 0.5, 0.9)),
    ]


def test_ids_of_common_voice_do_not_depend_on_where_it_is_read_from(tmp_path, monkeypatch):
    lines = ("path\tsentence", "x/a.wav\tone", "y/a.wav\ttwo")
    path = write(tmp_path / "cv" / "t.tsv", *lines)
    monkeypatch.chdir(tmp_path)
    for each in (path, Path("cv/t.tsv")):
        assert [one.utterance_id for one in read_corpus(each)[0]] == ["x/a", "y/a"]


def test_a_tsv_with_other_names_than_common_voice_is_a_table(tmp_path):
    corpus = read_corpus(write(tmp_path / "a.tsv", "path\ttext", "a.wav\thello"))
    assert corpus == ([Utterance("a", tmp_path / "a.wav", "hello")], [])


def test_the_line_of_a_quote_that_is_not_closed_is_named(tmp_path):
    (tmp_path / "a.csv").write_text('id,audio,text\na,a.wav,"yes\nb,b.wav,"no\n')
    with pytest.raises(ManifestError, match=r"a\.csv: line 2: .*close its quotes"):
        read_corpus(tmp_path / "a.csv")


@pytest.mark.parametrize("before", ["\n", "\r\n\r\n", " \n"])
def test_blank_lines_before_the_names_of_columns_are_passed_over(tmp_path, before):
    (tmp_path / "a.csv").write_text(f"{before}audio,text\na.wav,yes\n", newline="")
    assert read_corpus(tmp_path / "a.csv") == ([Utterance("a", tmp_path / "a.wav", "yes")], [])


def test_a_tsv_header_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "train.tsv").write_bytes(b"\xff\xfep\0a\0t\0h\0\n")
    with pytest.raises(ManifestError, match=r"train\.tsv: the line is not UTF-8"):
        read_corpus(tmp_path / "train.tsv")


def test_a_commonvoice_folder_asks_for_a_file(tmp_path):
    with pytest.raises(ManifestError, match="name one of them"):
        read_corpus(tmp_path, "commonvoice")


@pytest.mark.parametrize("named", ["folder", "file"])
def test_ljspeech(tmp_path, named):
    path = write(
        tmp_path / "metadata.csv",
        'LJ001-0001|In 1455, "he|in fourteen fifty-five, he',
        "LJ001-0002|Two fields",
        "LJ001-0003|Empty third|",
        "LJ001-0004",
        "|no id|no id",
        "LJ001-0001|again|again",
    )
    utterances, _ = corpus = read_corpus(tmp_path if named == "folder" else path)
    wavs = tmp_path / "wavs"
    assert utterances == [
        Utterance("LJ001-0001", wavs / "LJ001-0001.wav", "in fourteen fifty-five, he"),
        Utterance("LJ001-0002", wavs / "LJ001-0002.wav", "Two fields"),
        Utterance("LJ001-0003", wavs / "LJ001-0003.wav", "Empty third"),
    ]
    assert reasons(corpus) == [
        ("metadata.csv:4", "bad_line"),
        ("metadata.csv:5", "bad_line"),
        ("LJ001-0001", "duplicate_id"),
    ]


# --- real corpora


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data")
@pytest.mark.parametrize(
    ("name", "count"),
    [("digits/test.jsonl", 300), ("barista/train.jsonl", 404), ("speechocean762/dev", 300)],
)
def test_real_corpora_are_read_whole(name, count):
    utterances, rejections = read_corpus(DATA / name)
    assert (len(utterances), rejections) == (count, [])
    assert all(utterance.audio.is_file() and utterance.text for utterance in utterances)


def test_a_name_that_no_file_can_have_is_one_that_is_missing(tmp_path):
    name = "x" * 300
    write(tmp_path / "1-2.trans.txt", f"{name} ONE")
    ((utterance,), _) = read_corpus(tmp_path, "librispeech")
    assert utterance.audio == tmp_path / f"{name}.flac"


# --- recordings without a manifest


def recordings(folder: Path, *names: str) -> Path:
    for name in names:
        write(folder / name, "RIFF")
    return folder


def test_names_that_are_not_utf8_are_counted_and_shown_escaped(tmp_path):
    folder = recordings(tmp_path / os.fsdecode(b"caf\xe9"), "1.wav")
    utterances, _ = read_corpus(recordings(folder, "2.wav"))
    assert [each.utterance_id for each in utterances] == ["1", "2"]
    odd = [os.fsdecode(name) for name in (b"na\xefve.wav", b"\xff/3.wav")]
    utterances, rejections = read_corpus(recordings(folder, *odd))
    assert len(utterances) == 2
    details = [each.detail for each in rejections]
    assert "'\\udcff/3.wav' is no usable path (name the audio file in UTF-8" in details[1]
    assert "'na\\udcefve.wav' is no usable path" in details[0]
    assert "caf\\udce9: is odd" in str(ManifestError("is odd", path=folder))


def test_a_folder_of_recordings_is_a_corpus_without_transcripts(tmp_path):
    names = ("b/1.WAV", "a/1.flac", "a/2.m4a", "3.opus", "._3.opus", ".trash/4.wav", "cover.png")
    utterances, rejections = read_corpus(recordings(tmp_path, *names))
    assert [(each.utterance_id, str(each.audio.relative_to(tmp_path))) for each in utterances] == [
        *(("3", "3.opus"), ("a/1", "a/1.flac"), ("2", "a/2.m4a"), ("b/1", "b/1.WAV")),
    ]
    assert not rejections
    assert {each.text for each in utterances} == {None}


@pytest.mark.parametrize("text", ["txt/p225/1.txt", "transcript/all.txt", "wav/p225/1.wav.trn"])
def test_texts_elsewhere_in_a_folder_of_recordings_are_named_too(tmp_path, caplog, text):
    read_corpus(recordings(tmp_path, "wav/p225/1.wav", text))
    assert f"1 files such as {text} were not read as transcripts" in caplog.text


def test_a_kaldi_folder_inside_of_one_of_recordings_is_not_passed_over(tmp_path):
    recordings(tmp_path, "wav/1.wav", "train/wav.scp")
    with pytest.raises(ManifestError, match="holds train/wav.scp beside audio.*Kaldi folder"):
        read_corpus(tmp_path)


def test_what_is_written_into_a_folder_of_recordings_is_no_part_of_it(tmp_path, caplog):
    recordings(tmp_path, "1.wav", "work/labels.jsonl", "work/2.wav", "store/plan.json",
               "store/index.jsonl", "store/shards/3.wav")  # fmt: skip
    with pytest.raises(ManifestError, match="holds work/labels.jsonl beside audio"):
        read_corpus(tmp_path)
    utterances, _ = read_corpus(tmp_path, without=tmp_path / "work")
    assert [each.utterance_id for each in utterances] == ["1"]
    assert caplog.text == ""


def test_texts_beside_recordings_are_named_for_they_are_not_read(tmp_path, caplog):
    read_corpus(recordings(tmp_path, "a/1.wav", "a/1.txt", "a/2.wav", "a/2.TextGrid", "README.txt"))
    assert "2 files such as a/1.txt were not read as transcripts" in caplog.text


def test_a_folder_with_a_manifest_beside_its_audio_is_not_taken_for_audio_alone(tmp_path):
    folder = recordings(tmp_path, "audio/1.wav", "train.jsonl")
    with pytest.raises(ManifestError, match=r"holds train.jsonl beside audio \(name the manifest"):
        read_corpus(folder)
    assert len(read_corpus(folder, "recordings")[0]) == 1
    assert len(read_corpus(folder / "audio")[0]) == 1


@pytest.mark.parametrize("name", ["train.jsonl.gz", "train/metadata.csv", "en/validated.tsv.GZ"])
def test_packed_and_nested_manifests_count_too(tmp_path, name):
    folder = recordings(tmp_path, "train/1.wav", name)
    with pytest.raises(ManifestError, match=f"holds {name} beside audio"):
        read_corpus(folder)


def test_files_of_unknown_kinds_are_counted(tmp_path, caplog):
    names = ("a.wav", "b.mp2", "c.mka", "d.wv", "cover.png", "rec1", "rec2", "a.txt")
    assert len(read_corpus(recordings(tmp_path, *names))[0]) == 4
    assert "not known to be audio were not read: no suffix (2 x), .png (1 x)" in caplog.text


def test_audio_of_librispeech_without_a_transcript_is_named(tmp_path, caplog):
    folder = recordings(tmp_path, "1/2/1-2-1.flac", "1/2/1-2-1.mp3", "1/2/1-2-3.flac")
    (folder / "1/2/1-2.trans.txt").write_text("1-2-1 YES\n\n1-2-3 NO\n1-2-3 NO\n")
    assert len(read_corpus(folder / ".." / folder.name)[0]) == 2
    assert not caplog.text
    recordings(tmp_path, "1/2/1-2-2.flac")
    read_corpus(folder)
    assert "1 audio files such as 1/2/1-2-2.flac are not read" in caplog.text


def test_videos_of_recordings_are_not_read_beside_them(tmp_path, caplog):
    folder = recordings(tmp_path, *(f"talk{n}.{kind}" for n in range(3) for kind in ("wav", "mkv")))
    assert [each.utterance_id for each in read_corpus(folder)[0]] == ["talk0", "talk1", "talk2"]
    assert ".mkv (3 x)" in caplog.text


def test_of_many_kinds_of_files_the_most_common_are_named(tmp_path, caplog):
    names = [f"part.{n:04d}" for n in range(30)] + ["a.wav", "b.x", "c.x"]
    read_corpus(recordings(tmp_path, *names))
    assert "were not read: .x (2 x), " in caplog.text
    assert caplog.text.rstrip().endswith("(1 x), 23 other kinds")


def test_a_recording_whose_name_cannot_be_printed_is_rejected(tmp_path):
    corpus = read_corpus(recordings(tmp_path, "1.wav", "bad\n/2.wav"))
    assert [each.utterance_id for each in corpus[0]] == ["1"]
    assert reasons(corpus) == [("2.wav:1", "bad_line")]
