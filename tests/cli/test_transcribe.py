"""`tfkd transcribe` on a device: numpy, an interpreter, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfkd.data.audio_batches import audio_batches
from tfkd.decoding.decoder import decode_dataset
from tfkd.exporting.graph import decoder_for

NOT_ON_A_DEVICE = (
    *("tensorflow", "keras", "tensorflow_io", "soundfile", "sentencepiece"),
    *("jiwer", "yaml", "google_crc32c", "tqdm"),
)
# Python imports this by itself; None makes a later import fail.
BLOCK = f"import sys\nsys.modules.update(dict.fromkeys({NOT_ON_A_DEVICE!r}))\n"


@pytest.fixture(scope="module")
def bare_environment(tmp_path_factory) -> dict[str, str]:
    """Variables under which a child can import none of what a device lacks."""
    directory = tmp_path_factory.mktemp("bare")
    (directory / "sitecustomize.py").write_text(BLOCK)
    package_parent = Path(__file__).parents[2]
    paths = [str(directory), str(package_parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture
def transcribe(exports, bare_environment):
    """Runs the command in a child with the float32 model."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "tfkd", "transcribe", exports["tflite-float32"].path]
        return subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, text=True, env=bare_environment
        )

    return run


@pytest.fixture(scope="module")
def keras_texts(teacher, prepared, export_config) -> dict[str, str]:
    decoder = decoder_for(teacher, export_config)
    decoded = decode_dataset(decoder, audio_batches(prepared["test"], 1))
    return {each.utterance_id: each.best_text for each in decoded}


@pytest.mark.parametrize("module", NOT_ON_A_DEVICE)
def test_the_child_really_lacks_the_packages(bare_environment, module):
    command = [sys.executable, "-c", f"import {module}"]
    done = subprocess.run(command, capture_output=True, text=True, env=bare_environment)
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_a_recording_gives_the_text_of_keras(transcribe, tiny_corpus, keras_texts):
    done = transcribe(tiny_corpus / "test-01.wav")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{keras_texts['test-01']}\n"
    assert keras_texts["test-01"]
    assert done.stderr == ""


def test_several_recordings_give_a_line_each(transcribe, tiny_corpus, keras_texts):
    paths = {name: tiny_corpus / f"{name}.wav" for name in sorted(keras_texts)}
    done = transcribe(*paths.values())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{path}\t{keras_texts[name]}" for name, path in paths.items()
    ]
    assert len(set(keras_texts.values())) > 2


def test_json_holds_hypotheses_and_times(transcribe, tiny_corpus, keras_texts):
    path = tiny_corpus / "test-01.wav"
    done = transcribe("--json", path)
    (row,) = map(json.loads, done.stdout.splitlines())
    assert row["audio"] == str(path)
    (segment,) = row["segments"]
    assert row["text"] == segment["hypotheses"][0]["text"] == keras_texts["test-01"]
    assert (segment["start_seconds"], segment["end_seconds"]) == (0, row["audio_seconds"])
    assert 0 < row["audio_seconds"] < 1
    assert row["compute_seconds"] > 0
    assert segment["hypotheses"][0]["score"] >= segment["hypotheses"][-1]["score"]
    assert segment["hypotheses"][0]["finish_reason"] == "eos"


def test_a_text_that_was_cut_short_says_so(transcribe, tiny_corpus, tmp_path):
    """Twelve utterances, in segments that need more than the 14 tokens of the search."""
    names = [f"test-0{number}.wav" for number in range(6)] * 2
    whole = np.concatenate(
        [soundfile.read(tiny_corpus / name, dtype="float32")[0] for name in names]
    )
    soundfile.write(tmp_path / "long.wav", whole, 8000)
    done = transcribe("--json", "--segment-seconds", "5", tmp_path / "long.wav")
    best = [each["hypotheses"][0] for each in json.loads(done.stdout)["segments"]]
    cut = [each["finish_reason"] == "max_steps" for each in best]
    assert cut == [len(each["token_ids"]) == 14 and each["token_ids"][-1] != 3 for each in best]
    assert any(cut)
    (warning,) = done.stderr.splitlines()
    what = f"long.wav: the limit of tokens cut the text short in {sum(cut)} of {len(cut)} seg"
    assert what in warning


def test_a_recording_of_many_utterances_gives_the_texts_of_its_segments(
    transcribe, teacher, export_config, tiny_corpus, tmp_path
):
    names = [f"test-0{number}.wav" for number in range(6)] * 4
    parts = [soundfile.read(tiny_corpus / name, dtype="float32")[0] for name in names]
    whole = np.concatenate(parts)
    soundfile.write(tmp_path / "long.wav", whole, 8000)
    done = transcribe("--json", tmp_path / "long.wav")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    decoder = decoder_for(teacher, export_config)
    expected = []
    for segment in row["segments"]:
        begin, end = (round(segment[name] * 8000) for name in ("start_seconds", "end_seconds"))
        assert end - begin <= teacher.usual_seconds * 8000
        result = decoder.decode(whole[None, begin:end], np.array([end - begin], np.int32))
        ids = result.token_ids[0, 0, : result.num_tokens[0, 0]]
        expected.append(teacher.tokenizer.decode(ids.numpy().tolist()))
    assert [segment["hypotheses"][0]["text"] for segment in row["segments"]] == expected
    assert row["text"] == " ".join(filter(None, expected))
    assert segment["end_seconds"] == row["audio_seconds"] > 8
    refused = transcribe("--segment-seconds", "1000", tmp_path / "long.wav")
    assert refused.returncode == 1
    assert "the model takes at most" in refused.stderr


def test_a_bad_recording_is_named_and_hides_no_other(
    transcribe, tiny_corpus, tmp_path, keras_texts
):
    text = tmp_path / "notes.wav"
    text.write_text("not audio at all\n" * 100)
    absent, good = tmp_path / "absent.wav", tiny_corpus / "test-00.wav"
    done = transcribe(text, absent, good)
    assert done.returncode == 1
    assert done.stdout == f"{good}\t{keras_texts['test-00']}\n"
    first, second = done.stderr.splitlines()
    assert first.startswith(f"tfkd: error: {text}: ")
    assert second.startswith(f"tfkd: error: {absent}: ")


def test_a_format_beyond_wav_names_the_package_that_reads_it(transcribe, tiny_corpus):
    done = transcribe(next(tiny_corpus.glob("*.flac")))
    assert done.returncode == 1
    assert "pip install soundfile" in done.stderr
    assert len(done.stderr.splitlines()) == 1
