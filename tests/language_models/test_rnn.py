"""The recurrent language model scores a search as it scores whole sentences."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import VOCAB_SIZE, random_token_ids, randomise, tokenizer

from tfkd.config import RecurrentConfig
from tfkd.errors import CheckpointError, LanguageModelError
from tfkd.language_models import language_model_sha256, load_language_model
from tfkd.language_models.rnn import MODEL, RecurrentLanguageModel
from tfkd.storage.keras_files import write_model
from tfkd.text import EOS_ID, FIRST_PIECE_ID, SOS_ID, CharacterTokenizer


def tiny_model(**settings) -> RecurrentLanguageModel:
    config = RecurrentConfig(units=7, embedding_units=5, **settings)
    model = RecurrentLanguageModel(config, VOCAB_SIZE)
    randomise(model.trainable_variables, gain=2.0)
    return model


@pytest.fixture
def folder(tmp_path):
    write_model(tiny_model(), tmp_path / MODEL)
    tokenizer().save(tmp_path)
    return tmp_path


def test_a_model_whose_training_goes_on_is_warned_of(folder, caplog):
    load_language_model(folder, tokenizer())
    assert not caplog.records
    (folder / "history.jsonl").touch()
    load_language_model(folder, tokenizer())
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{folder}: its training has not ended")


def test_a_global_policy_of_keras_changes_nothing():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny_model()
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
def test_each_step_of_the_scorer_equals_teacher_forcing(cell, layers):
    model = tiny_model(cell=cell, layers=layers)
    ids = random_token_ids(np.random.default_rng(0), 3, 1)[:, 0]
    ids = np.concatenate([np.full((3, 1), SOS_ID, np.int32), ids], 1)
    expected = model(tf.constant(ids))
    scorer = model.scorer(1.0, 3)
    state = scorer.initial_state
    for step in range(ids.shape[1]):
        log_probs, state = scorer.step_fn(tf.constant(ids[:, step]), state)
        np.testing.assert_allclose(log_probs, expected[:, step], atol=1e-5)
    assert np.ptp(expected, axis=1).max() > 0.5  # the history matters


def test_only_what_can_be_emitted_has_probability():
    log_probs = tiny_model()(tf.constant([[SOS_ID]])).numpy()[0, 0]
    emitted = [EOS_ID, *range(FIRST_PIECE_ID, VOCAB_SIZE)]
    np.testing.assert_allclose(np.exp(log_probs[emitted]).sum(), 1.0, rtol=1e-5)


def test_dropout_is_for_training_alone():
    model = tiny_model(dropout=0.5)
    ids = tf.constant([[SOS_ID, 5, 6, 7]])
    np.testing.assert_array_equal(model(ids), model(ids))
    assert np.abs(model(ids, training=True) - model(ids)).max() > 0.01


def test_a_folder_comes_back_as_it_went(folder):
    model = load_language_model(folder, tokenizer())
    ids = tf.constant([[SOS_ID, 5, 8, 4]])
    np.testing.assert_array_equal(model(ids), tiny_model()(ids))


def test_a_model_of_another_tokenizer_or_none_is_refused(folder, tmp_path):
    with pytest.raises(LanguageModelError, match="its tokenizer is not the recogniser's"):
        load_language_model(folder, CharacterTokenizer(" abce"))
    (folder / MODEL).write_bytes(b"no model")
    with pytest.raises(CheckpointError, match="damaged"):
        load_language_model(folder, tokenizer())
    (folder / MODEL).unlink()
    with pytest.raises(LanguageModelError, match=r"model\.keras is missing"):
        load_language_model(folder, tokenizer())
    with pytest.raises(LanguageModelError, match="no such language model"):
        load_language_model(tmp_path / "absent", tokenizer())


def test_a_language_model_is_known_by_its_content(folder, tmp_path):
    first = language_model_sha256(folder)
    arpa = tmp_path / "lm.arpa"
    arpa.write_text("one")
    other = language_model_sha256(arpa)
    arpa.write_text("two")
    assert len({first, other, language_model_sha256(arpa)}) == 3
    with pytest.raises(LanguageModelError, match="no such language model"):
        language_model_sha256(tmp_path / "absent")
