"""Files that commit 861bfce wrote, before there was a choice of families, are read as they were.

`earlier_versions/861bfce` holds a run with a checkpoint, stores, and exports; `expected.json` is
what that commit said of the six utterances of `valid`. TFKD_WRITTEN names another such folder, that
`written_files.py` made under other versions of Python and TensorFlow: see `make matrix`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfkd.audio.flac import decode_flac
from tfkd.config import from_dict, to_dict
from tfkd.data.audio_batches import audio_batches
from tfkd.decoding.decoder import decode_dataset
from tfkd.decoding.runs import load_run
from tfkd.evaluation.evaluate import evaluate
from tfkd.evaluation.models import open_model
from tfkd.models.recogniser import Recogniser
from tfkd.records import open_store
from tfkd.training.callbacks import CHECKPOINTS
from tfkd.training.checkpoints import restore_checkpoint
from tfkd.training.trainable import compile_for

ROOT = Path(__file__).parent.parent
COMMIT = ROOT / "tests" / "earlier_versions" / "861bfce"
HERE = Path(os.environ.get("TFKD_WRITTEN", COMMIT))
EXPECTED = json.loads((HERE / "expected.json").read_text())
TEXTS = {row["utterance_id"]: row["text"] for row in EXPECTED}


@pytest.fixture(scope="module")
def run():
    return load_run(HERE / "run")


@pytest.fixture(scope="module")
def valid():
    return open_store(HERE / "valid")


def assert_as_expected(found):
    assert [each.utterance_id for each in found] == list(TEXTS)
    for each, row in zip(found, EXPECTED, strict=True):
        assert each.best_text == row["text"]
        count = each.result.num_tokens[0]
        assert each.result.token_ids[0, :count].tolist() == row["token_ids"]
        assert each.result.log_prob[0] == pytest.approx(row["log_prob"], abs=1e-4)


def test_a_run_says_what_it_said(run, valid):
    decoder = run.decoder()
    batches = list(audio_batches(valid, 6))
    found = sorted(decode_dataset(decoder, batches), key=lambda each: each.utterance_id)
    assert_as_expected(found)


def test_its_config_gets_the_kinds_of_that_time(run):
    """What is written back is read as the same settings."""
    model = run.system.model
    assert from_dict(type(model), to_dict(model)) == model
    assert (model.encoder.cell, model.decoder.cell, model.frontend.num_mels) == ("lstm", "lstm", 20)


def test_a_checkpoint_is_restored(run, tmp_path):
    folder = shutil.copytree(HERE / "run" / CHECKPOINTS, tmp_path / CHECKPOINTS)
    model = Recogniser(run.system.model, run.tokenizer.vocab_size)
    compile_for(model, run.system.training, total_steps=108)
    progress = restore_checkpoint(folder, model)
    assert progress.epochs == 18
    assert int(model.optimizer.iterations.numpy()) == 108
    # The checkpoint is that of the last epoch; the run keeps the best, which lost nothing since.
    theirs = run.model.get_weights()
    assert [x.shape for x in model.get_weights()] == [x.shape for x in theirs]
    assert any(np.abs(x).max() > 0 for x in model.get_weights())


def test_its_pseudo_labels_verify():
    store = open_store(HERE / "labels")
    store.verify()
    records = list(store.records())
    assert len(records) == len(store.index) > 0
    assert all(record.hypotheses and record.hypotheses[0].text for record in records)


@pytest.mark.parametrize("form", ["model-float32.tflite", "savedmodel"])
def test_its_exports_say_what_it_said(form, valid):
    _, transcripts = evaluate(open_model(HERE / form, trusted=True), valid)
    assert {each.utterance_id: each.hypothesis for each in transcripts} == TEXTS


def test_a_command_transcribes_and_says_nothing_else(valid, tmp_path):
    """Native libraries greet on standard error, each in its versions."""
    for record in valid.records():
        samples = decode_flac(record.utterance.audio, "int16")
        wav = tmp_path / f"{record.utterance_id}.wav"
        soundfile.write(wav, samples, record.utterance.sample_rate_hz)
    recordings = [str(tmp_path / f"{name}.wav") for name in TEXTS]
    command = [sys.executable, "-m", "tfkd", "transcribe", HERE / "model-float32.tflite"]
    done = subprocess.run([*command, *recordings], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [f"{path}\t{text}" for path, text in zip(recordings, TEXTS.values(), strict=True)]
    assert done.stdout.splitlines() == lines
