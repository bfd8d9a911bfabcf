"""A language model learns, survives a kill, and names its measures rightly."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from helpers import tokenizer

from tfkd import cli
from tfkd.config import LanguageModelConfig, LanguageModelTrainingConfig, RecurrentConfig, to_yaml
from tfkd.errors import CheckpointError, TextError
from tfkd.language_models import load_language_model
from tfkd.language_models.sentences import Sentences, read_sentences
from tfkd.text import EOS_ID, SOS_ID
from tfkd.training import language_model as lm_training
from tfkd.training.language_model import sentence_batches, train_language_model

SENTENCES = ["ab cd", "ab", "cd ab", "abc d"]
CONFIG = LanguageModelConfig(
    RecurrentConfig(units=16, embedding_units=8),
    LanguageModelTrainingConfig(epochs=4, batch_size=8, learning_rate=2e-2),
)

# Kills itself in the middle of an epoch: nothing can be tidied up.
TRAIN_AND_DIE = """
import os, signal, sys
from helpers import tokenizer
from tfkd.training import language_model as lm_training
from tfkd.config import LanguageModelConfig, from_dict
from tfkd.config.strict_yaml import read_yaml

def die(self, batch, logs=None):
    if int(self.model.optimizer.iterations.numpy()) == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)

lm_training.StopOnNonFiniteLoss.on_train_batch_end = die
config = from_dict(LanguageModelConfig, read_yaml(sys.argv[1]))
lm_training.train_language_model(config, tokenizer(), [sys.argv[2]], [sys.argv[2]], sys.argv[3])
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(SENTENCES * 8), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("lm")
    return out, train_language_model(CONFIG, tokenizer(), [text], [text], out)


def history_of(out) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


def test_perplexity_falls_and_is_that_of_the_model_on_disk(trained, text):
    out, summary = trained
    history = history_of(out)
    best = min(history, key=lambda row: row["val_perplexity"])
    assert best["val_perplexity"] < 0.75 * history[0]["val_perplexity"]
    assert summary.perplexity == best["val_perplexity"]
    assert summary.sentences == 32
    model = load_language_model(out, tokenizer())
    nats = []
    for ids in read_sentences([text], tokenizer()).token_ids:
        log_probs = model(tf.constant([[SOS_ID, *ids]]))[0]
        nats += [-float(log_probs[step, token]) for step, token in enumerate((*ids, EOS_ID))]
    assert summary.perplexity == pytest.approx(math.exp(np.mean(nats)), rel=1e-4)
    assert summary.bits_per_token == pytest.approx(np.mean(nats) / math.log(2), rel=1e-4)


def test_a_finished_model_is_returned_without_work(trained, text, tmp_path, monkeypatch):
    """Without its checkpoints, too, which another version cannot read."""

    def refuse(*arguments):
        raise AssertionError("this must not be called")

    out = shutil.copytree(trained[0], tmp_path / "lm")
    shutil.rmtree(out / "checkpoints")
    monkeypatch.setattr(lm_training, "_fit", refuse)
    assert train_language_model(CONFIG, tokenizer(), [text], [text], out) == trained[1]


def test_a_folder_of_another_text_is_refused(trained, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("dab\n")
    with pytest.raises(CheckpointError, match="data: other training data; other validation data"):
        train_language_model(CONFIG, tokenizer(), [other], [other], trained[0])


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_last_epoch(tmp_path, text):
    (tmp_path / "lm.yaml").write_text(to_yaml(CONFIG))
    arguments = [tmp_path / "lm.yaml", text, tmp_path / "lm", 2 * 4 + 3]
    done = subprocess.run([sys.executable, "-c", TRAIN_AND_DIE, *map(str, arguments)], check=False,
                          env={**os.environ, "PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    before = history_of(tmp_path / "lm")
    assert 1 <= len(before) < 4
    train_language_model(CONFIG, tokenizer(), [text], [text], tmp_path / "lm")
    after = history_of(tmp_path / "lm")
    assert len(after) == 4
    assert after[: len(before)] == before


def test_batches_frame_every_sentence_once():
    sentences = Sentences(((5,), (6, 7, 8), (5, 5), (8, 4, 6, 7)), 0)
    found = []
    for inputs, targets in sentence_batches(sentences, tokenizer(), 2, seed=1):
        for row, target in zip(inputs.numpy(), targets.numpy(), strict=True):
            length = int((target != 0).sum())
            assert row[0] == SOS_ID
            assert target[length - 1] == EOS_ID
            np.testing.assert_array_equal(row[1:length], target[: length - 1])
            found.append(tuple(target[: length - 1]))
    assert sorted(found) == sorted(sentences.token_ids)


def test_an_epoch_has_the_same_batches_each_time_that_it_is_read():
    sentences = Sentences(tuple((4 + n % 5,) * (1 + n % 7) for n in range(40)), 0)

    def batches(**place: int) -> list[list]:
        found = sentence_batches(sentences, tokenizer(), 3, **place)
        assert int(found.cardinality()) == sum(1 for _ in found)
        return [inputs.numpy().tolist() for inputs, _ in found]

    assert batches(seed=1) == batches(seed=1)
    assert batches(seed=1) != batches(seed=2)
    assert batches(seed=1, first=5) == batches(seed=1)[5:]


def test_text_is_normalised_and_what_cannot_be_spelt_is_counted(tmp_path, prepared):
    path = tmp_path / "text.txt"
    path.write_text("AB,  cd!\n\nxyz\n...\nDab\n", encoding="utf-8")
    sentences = read_sentences([path], tokenizer())
    assert [tokenizer().decode(ids) for ids in sentences.token_ids] == ["ab cd", "dab"]
    assert sentences.skipped == 1
    assert sentences.first_skipped == "characters not in the vocabulary: 'x' 'y' 'z' in 'xyz'"
    both = read_sentences([path, prepared["train"].directory], tokenizer())
    assert len(both.token_ids) + both.skipped == 3 + 24
    assert "ba" in [tokenizer().decode(ids) for ids in both.token_ids]
    path.write_text("xyz\n")
    with pytest.raises(TextError, match="no sentence that the tokenizer can spell .* skipped 1"):
        read_sentences([path], tokenizer())
    with pytest.raises(TextError, match="cannot read the text"):
        read_sentences([tmp_path / "absent.txt"], tokenizer())


def test_tags_are_no_words_of_a_language_model(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("[noise] ab cd <sil>\n[laughter]\nn/a\n")
    assert read_sentences([path], tokenizer()).token_ids == (tuple(tokenizer().encode("ab cd")),)


def test_the_commands_train_and_write_units(teacher, tmp_path, capsys):
    words, lm = tmp_path / "words.txt", tmp_path / "lm"
    words.write_text("Ba di.\nko\nxyz\n")
    (tmp_path / "lm.yaml").write_text(to_yaml(CONFIG))
    run = str(teacher.directory)
    cli.main(["train-lm", str(tmp_path / "lm.yaml"), "--run", run, "--text", str(words),
              "--valid", str(words), "--out", str(lm)])  # fmt: skip
    said = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r"validation perplexity \d+\.\d\d \(\d\.\d{3} bits a token\)", said)
    skipped = (
        ", 1 skipped, which the tokenizer cannot spell (first: characters not in the vocabulary: "
        "'x' 'y' 'z' in 'xyz')"
    )
    assert said.endswith(f"2 sentences{skipped}")
    assert load_language_model(lm, teacher.tokenizer).vocab_size == teacher.tokenizer.vocab_size
    cli.main(["lm-text", run, "--text", str(words), "--out", str(tmp_path / "units.txt")])
    assert capsys.readouterr().out == f"2 sentences in {tmp_path / 'units.txt'}{skipped}\n"
    units = (tmp_path / "units.txt").read_text(encoding="utf-8")
    assert units == "b a \u2581 d i\nk o\n"
