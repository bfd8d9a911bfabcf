"""A Whisper labels into the same verified store as every other teacher."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("tokenizers", reason="needs pip install 'tfkd[whisper]'")

import whisper_folders as folders

from tfkd import cli
from tfkd.config import LabelConfig, WhisperConfig
from tfkd.data.audio_batches import audio_batches
from tfkd.data.preparation import prepare
from tfkd.decoding.runs import check_run, load_run
from tfkd.distillation import whisper_teacher
from tfkd.distillation.labelling import label
from tfkd.distillation.teachers import load_teacher
from tfkd.distillation.whisper_teacher import WhisperTeacher, WhisperTranscript, Window
from tfkd.errors import CheckpointError, ConfigError, RecordError
from tfkd.evaluation.models import open_model
from tfkd.records import PSEUDO_LABELS, open_store

CONFIG = LabelConfig(
    beam_width=3,
    num_hypotheses=3,
    max_tokens=5,
    batch_size=4,
    whisper=WhisperConfig(language="en"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folders.write_huggingface(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture(scope="module")
def whisper(folder) -> WhisperTeacher:
    return load_teacher(f"whisper:{folder}")


@pytest.fixture(scope="module")
def untranscribed(tmp_path_factory):
    """A corpus of which no transcript is known: short ones, and one longer than a window."""
    directory = tmp_path_factory.mktemp("untranscribed")
    generator = np.random.default_rng(2)
    rows = []
    for name, seconds in {"a": 1.0, "b": 2.5, "long": 70.0}.items():
        samples = 0.2 * generator.standard_normal(round(seconds * 16000))
        samples *= np.abs(np.sin(np.arange(len(samples)) / 16000))  # quiet every three seconds
        soundfile.write(directory / f"{name}.wav", samples, 16000)
        rows.append(f'{{"utterance_id": "{name}", "audio": "{name}.wav"}}\n')
    (directory / "all.jsonl").write_text("".join(rows))
    return directory / "all.jsonl"


@pytest.mark.slow
def test_a_command_labels_what_nobody_has_transcribed(folder, untranscribed, tmp_path, capsys):
    out = tmp_path / "labels"
    arguments = ["label", f"whisper:{folder}", "--data", str(untranscribed), "--out", str(out)]
    settings = ["whisper.language=en", "max_tokens=5"]
    options = [part for setting in settings for part in ("--set", setting)]
    cli.main([*arguments, "--beam-width", "3", "--num-hypotheses", "3", *options])
    # The long recording was cut in its pauses.
    assert capsys.readouterr().out.startswith("5 utterances labelled, 0 rejected, 5 in all")
    store = open_store(out, kind=PSEUDO_LABELS)
    store.verify(deep=True)
    assert store.plan.sources["teacher"] == load_teacher(f"whisper:{folder}").identity
    pieces = [piece.utterance_id for piece in store.pieces]
    assert [r.utterance_id for r in store.records()] == ["a", "b", *pieces]
    for record in store.records():
        assert record.utterance.text is None
        assert record.utterance.num_samples <= 30 * 16000
        assert len(record.hypotheses) == 3
        for hypothesis in record.hypotheses:
            assert set(hypothesis.text) <= set("ab ")
            assert hypothesis.log_prob == pytest.approx(sum(hypothesis.token_log_probs), abs=1e-5)
            is_ended = hypothesis.token_ids[-1] == folders.ids_of()[folders.END]
            assert hypothesis.finish_reason == ("eos" if is_ended else "max_steps")


@pytest.fixture(scope="module")
def whole(untranscribed, whisper, tmp_path_factory):
    """The corpus with its long recording in one piece, as a store of other settings may hold it."""
    out = tmp_path_factory.mktemp("whole")
    prepare(untranscribed, out, dataclasses.replace(whisper.preparation, max_seconds=100.0))
    return open_store(out)


@pytest.mark.slow
def test_long_utterances_are_heard_in_windows(whisper, whole):
    (batch,) = audio_batches(whole, 3)
    labelled = whisper.labeller(CONFIG)(batch)
    row = batch["utterance_id"].numpy().tolist().index(b"long")
    waveform, length = batch["waveform"].numpy()[row], int(batch["num_samples"][row])
    windows = whisper_teacher._windows(waveform[None, :length], np.array([length]))
    assert len(windows) == 3
    assert max(len(window.waveform) for window in windows) <= 30 * 16000
    np.testing.assert_array_equal(np.concatenate([w.waveform for w in windows]), waveform[:length])
    parts = [
        whisper.labeller(CONFIG)(
            {"waveform": w.waveform[None], "num_samples": np.array([len(w.waveform)])}
        )[0]
        for w in windows
    ]
    ways = sorted(
        itertools.product(*parts), key=lambda way: -sum(hypothesis.log_prob for hypothesis in way)
    )
    for found, way in zip(labelled[row], ways[: len(labelled[row])], strict=True):
        assert found.token_ids == tuple(i for hypothesis in way for i in hypothesis.token_ids)
        assert found.log_prob == pytest.approx(sum(h.log_prob for h in way), abs=1e-4)
        assert found.text == " ".join(h.text for h in way if h.text)


@pytest.mark.parametrize("ended", [4, 3, 1, 0])
def test_the_best_of_windows_are_those_of_all_choices(ended):
    """As in the search, a transcript that was cut off comes behind all that have ended."""
    generator = np.random.default_rng(3)
    windows = [Window(0, np.zeros(0)), *[Window(1, np.zeros(0))] * 3]
    found = [
        [
            WhisperTranscript(
                f"w{n}r{rank}", (n, rank), float(score), float(score), (0.0, 0.0), rank >= 4 - ended
            )
            for rank, score in enumerate(sorted(generator.uniform(-9, 0, 4).tolist())[::-1])
        ]
        for n in range(4)
    ]
    single, joined = whisper_teacher._joined(windows, found, 4)
    assert single == found[0]

    def rank(way):
        return not all(t.is_finished for t in way), -sum(t.score for t in way)

    ways = sorted(itertools.product(*found[1:]), key=rank)[:4]
    assert [t.written for t in joined] == [" ".join(t.written for t in way) for way in ways]
    assert [t.is_finished for t in joined] == [all(t.is_finished for t in way) for way in ways]


@pytest.mark.slow
def test_a_rerun_keeps_what_is_labelled_and_refuses_other_settings(whisper, whole, tmp_path):
    summary = label(whisper, whole, tmp_path, CONFIG)
    before = {path: path.stat().st_mtime_ns for path in open_store(tmp_path).shard_paths}
    assert label(whisper, whole, tmp_path, CONFIG) == summary
    assert {path: path.stat().st_mtime_ns for path in before} == before
    german = dataclasses.replace(CONFIG, whisper=WhisperConfig(language="de"))
    with pytest.raises(RecordError, match='language="en" there and whisper.language="de" here'):
        label(whisper, whole, tmp_path, german)


def test_settings_of_whisper_are_not_for_a_run(teacher, prepared, label_config, tmp_path):
    config = dataclasses.replace(label_config, whisper=WhisperConfig(language="en"))
    with pytest.raises(ConfigError, match="labels.whisper: applies to a teacher whisper:FOLDER"):
        label(teacher, prepared["train"], tmp_path / "labels", config)


def test_what_is_no_teacher_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="is no Whisper"):
        load_teacher(f"whisper:{tmp_path}")
    with pytest.raises(CheckpointError, match="is not a finished run"):
        load_teacher(tmp_path)


@pytest.mark.parametrize("write", [folders.write_huggingface, folders.write_ctranslate2])
@pytest.mark.parametrize("prefix", ["", "whisper:"])
@pytest.mark.parametrize("read", [load_run, check_run, open_model])
def test_a_whisper_in_the_place_of_a_run_is_named(tmp_path, write, prefix, read):
    folder = write(tmp_path / "tiny")
    with pytest.raises(CheckpointError, match="tiny: is a Whisper, not a run") as error:
        read(f"{prefix}{folder}")
    assert f"(use whisper:{folder} with tfkd label, tfkd decode" in str(error.value)


def test_a_whisper_without_its_prefix_is_no_teacher(folder):
    with pytest.raises(CheckpointError, match=f"use whisper:{folder} with tfkd label"):
        load_teacher(folder)


def test_a_run_with_the_prefix_of_a_whisper_is_named(teacher):
    with pytest.raises(CheckpointError, match=r"is a run of tfkd, not a Whisper \(leave out whisp"):
        load_teacher(f"whisper:{teacher.directory}")


def test_words_of_numbers_need_a_language(whisper):
    config = dataclasses.replace(CONFIG, whisper=WhisperConfig(numbers="words"))
    with pytest.raises(ConfigError, match="labels.whisper.numbers: words for numbers need"):
        whisper.digest(config)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "state of the art 50"),
        ({"extra_characters": "-%"}, "state-of-the-art 50%"),
        ({"extra_characters": "-%", "numbers": "words"}, "state-of-the-art fifty percent"),
    ],
)
def test_labels_keep_the_characters_that_transcripts_keep(whisper, options, expected):
    config = dataclasses.replace(CONFIG, whisper=WhisperConfig(language="en", **options))
    to_text = whisper_teacher._to_text(whisper.folder.tokens, config)
    assert to_text("State-of-the-art, 50%.") == expected
    assert (whisper.digest(config) == whisper.digest(CONFIG)) == (not options)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("[BLANK_AUDIO]", ""),
        ("(laughs) Turn it on.", "turn it on"),
        ("...", ""),
        ("(800) 5", "800 5"),
        ("(speaking in foreign language)", None),
    ],
)
def test_marks_of_sounds_are_no_words(whisper, written, expected):
    assert whisper_teacher._to_text(whisper.folder.tokens, CONFIG)(written) == expected


# --- decode


def decoded(folder, untranscribed, capsys, *options) -> list[str]:
    arguments = ["decode", f"whisper:{folder}", "--data", str(untranscribed), *options]
    settings = ["whisper.language=en", "max_tokens=5", "beam_width=3"]
    cli.main([*arguments, *(part for setting in settings for part in ("--set", setting))])
    return capsys.readouterr().out.splitlines()


@pytest.mark.slow
def test_decode_gives_what_label_keeps(folder, untranscribed, whisper, tmp_path, capsys):
    prepare(untranscribed, tmp_path / "data", whisper.preparation)
    store = open_store(tmp_path / "data")
    expected = {}
    for batch in audio_batches(store, 4):
        names = [name.decode() for name in batch["utterance_id"].numpy()]
        expected |= dict(zip(names, whisper.labeller(CONFIG)(batch), strict=True))
    rows = map(json.loads, decoded(folder, untranscribed, capsys, "--nbest", "--json"))
    found = {row["utterance_id"]: row for row in rows}
    assert found.keys() == expected.keys()
    for name, hypotheses in expected.items():
        assert found[name]["reference"] is None
        kept = found[name]["hypotheses"]
        assert [each["token_ids"] for each in kept] == [list(h.token_ids) for h in hypotheses]
        assert [each["log_prob"] for each in kept] == pytest.approx(
            [h.log_prob for h in hypotheses], abs=1e-4
        )
        assert [each["written"] for each in kept] == [h.written for h in hypotheses]
    best = dict(line.split("\t") for line in decoded(folder, untranscribed, capsys))
    assert best == {name: hypotheses[0].text for name, hypotheses in expected.items()}


@pytest.mark.slow
def test_the_n_best_show_each_token(folder, untranscribed, whisper, capsys):
    lines = decoded(folder, untranscribed, capsys, "--nbest")
    names = [line for line in lines if not line.startswith(" ")]
    assert {"a", "b", "long-0001"} < set(names)
    ranks = [line.split()[0] for line in lines if " score " in line]
    assert ranks == ["1", "2", "3"] * (len(ranks) // 3)
    assert len(ranks) == 15
    assert not any("coverage" in line or "@" in line for line in lines)
    vocabulary = {"a", " a", " b", " ", folders.END}
    for line in lines:
        if line.startswith("     "):
            pieces = [part.rpartition(" ")[0].strip("'") for part in line.strip().split("  ")]
            assert set(pieces) <= vocabulary, line


def test_settings_that_no_whisper_knows_are_refused(folder, untranscribed, capsys):
    with pytest.raises(SystemExit):
        decoded(folder, untranscribed, capsys, "--set", "fusion.ctc_weight=0.3")
    assert "a Whisper has no CTC head" in capsys.readouterr().err


# --- the configs to begin with

CONFIGS = Path(__file__).parents[2] / "configs"
FEW_TOKENS = ("--set", "labels.max_tokens=5")  # a limit of this tiny Whisper


@pytest.fixture
def recordings(folder, tmp_path) -> dict[str, str]:
    """What the placeholders of a command in a config stand for."""
    soundfile.write(tmp_path / "one.wav", np.full(16000, 0.1), 16000)
    return {
        "FOLDER_OF_THE_WHISPER": str(folder),
        "configs": str(CONFIGS),
        "work/mine": str(tmp_path / "work"),
        "FOLDER": str(tmp_path),
    }


def placed(words: str, places: dict[str, str]) -> list[str]:
    for name, place in places.items():
        words = words.replace(name, place)
    return shlex.split(words)


@pytest.mark.slow
def test_the_command_of_the_config_for_recordings_takes_a_whisper(recordings, capsys):
    lines = (CONFIGS / "recordings.yaml").read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("#   tfkd run"))
    words = f"{lines[first]} {lines[first + 1]}".replace("#", "").replace("\\", "")
    cli.main([*placed(words, recordings)[1:], *FEW_TOKENS])
    assert re.search(r"^label +to do ", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.slow
def test_the_config_to_begin_with_takes_a_whisper_beside_transcripts(recordings, tmp_path, capsys):
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.jsonl").write_text('{"audio": "one.wav", "text": "yes"}\n')
    text = (CONFIGS / "start.yaml").read_text()
    (options,) = re.findall(r"^#   (--set teacher=whisper:.*)", text, re.MULTILINE)
    whisper = {**recordings, "FOLDER": recordings["FOLDER_OF_THE_WHISPER"]}
    words = "run configs/start.yaml --set data_dir=FOLDER --set work_dir=work/mine --dry-run"
    cli.main([*placed(words, recordings), *placed(options, whisper), *FEW_TOKENS])
    assert re.search(r"^label +to do ", capsys.readouterr().out, re.MULTILINE)
