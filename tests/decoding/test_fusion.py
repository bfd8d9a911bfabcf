"""Scorers that join the search change scores by exactly their weighted log-probabilities."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import VOCAB_SIZE, random_batch, randomise, tiny_model, tokenizer

from tfkd.beam_search import BeamResult
from tfkd.config import DecodingConfig, FusionConfig, RecurrentConfig, from_dict
from tfkd.decoding.decoder import Decoder
from tfkd.errors import ConfigError
from tfkd.language_models import load_language_model
from tfkd.language_models.rnn import MODEL, RecurrentLanguageModel
from tfkd.objectives.losses import ctc
from tfkd.storage.keras_files import write_model
from tfkd.text import EOS_ID, PAD_ID, SOS_ID

SECONDS = (0.24, 0.12, 0.2)
LM_WEIGHT, CTC_WEIGHT = 0.7, 0.4


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    model = RecurrentLanguageModel(RecurrentConfig(units=6, embedding_units=5), VOCAB_SIZE)
    randomise(model.trainable_variables, gain=2.0)
    write_model(model, folder / MODEL)
    tokenizer().save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def recogniser():
    """One that ends its sentences soon, so that most of them have an alignment."""
    model = tiny_model(seed=1, gain=1.0)
    is_end = np.arange(VOCAB_SIZE) == EOS_ID
    model.decoder.output_bias.assign(1.0 * is_end)
    return model


def decode(model, **fusion) -> BeamResult:
    config = DecodingConfig(
        beam_width=6, num_hypotheses=4, max_tokens=6, fusion=FusionConfig(**fusion)
    )
    batch = random_batch(SECONDS)
    decoder = Decoder(model, tokenizer(), config)
    return BeamResult(*(x.numpy() for x in decoder.decode(batch.waveform, batch.num_samples)))


def lm_log_probs(folder, token_ids) -> np.ndarray:
    """[B, K]: the language model's sum over token_ids [B, K, U], by teacher forcing."""
    flat = token_ids.reshape(-1, token_ids.shape[-1])
    inputs = np.concatenate([np.full_like(flat[:, :1], SOS_ID), flat[:, :-1]], 1)
    log_probs = load_language_model(folder, tokenizer())(tf.constant(inputs))
    of_tokens = tf.gather(log_probs, flat, batch_dims=2).numpy()
    return np.where(flat == PAD_ID, 0, of_tokens).sum(1).reshape(token_ids.shape[:2])


def ctc_log_prob(model, row, ids) -> float:
    """The log-probability of one hypothesis by the loss that CTC was trained with."""
    batch = random_batch(SECONDS)
    encoded, lengths = model.encode(batch.waveform, batch.num_samples)
    one = slice(row, row + 1)
    loss = ctc(
        model.ctc_logits(encoded)[one], lengths[one], tf.constant(ids[None, None]), tf.ones([1, 1])
    )
    return -float(loss) * int((ids > EOS_ID).sum())


@pytest.mark.slow
def test_a_language_model_adds_its_weighted_log_prob_and_no_more(recogniser, lm):
    plain, fused = decode(recogniser), decode(recogniser, lm=lm, lm_weight=LM_WEIGHT)
    expected = fused.log_prob + LM_WEIGHT * lm_log_probs(lm, fused.token_ids)
    np.testing.assert_allclose(fused.score, expected, atol=1e-4)
    assert (np.diff(fused.score[:, :2]) <= 0).all()
    assert any((a != b).any() for a, b in zip(plain.token_ids, fused.token_ids, strict=True))
    inputs = {**random_batch(SECONDS).inputs(), "token_ids": tf.constant(fused.token_ids)}
    log_probs = tf.nn.log_softmax(recogniser(inputs).logits)
    of_tokens = tf.gather(log_probs, fused.token_ids, batch_dims=3).numpy()
    own = np.where(fused.token_ids == PAD_ID, 0, of_tokens).sum(-1)
    np.testing.assert_allclose(fused.log_prob, own, atol=1e-4)


@pytest.mark.slow
def test_ctc_adds_the_weighted_log_prob_of_its_loss(recogniser):
    fused = decode(recogniser, ctc_weight=CTC_WEIGHT)
    checked = 0
    for row, rank in np.ndindex(fused.score.shape):
        ids = fused.token_ids[row, rank]
        share = fused.score[row, rank] - fused.log_prob[row, rank]
        if fused.is_finished[row, rank] and (ids > EOS_ID).any() and share > -100:
            expected = CTC_WEIGHT * ctc_log_prob(recogniser, row, ids)
            np.testing.assert_allclose(share, expected, rtol=1e-3, atol=1e-3)
            checked += 1
    assert checked >= 4
    assert (fused.token_ids != decode(recogniser).token_ids).any()


@pytest.mark.slow
def test_a_model_without_weight_changes_nothing(recogniser, lm):
    for one, other in zip(decode(recogniser), decode(recogniser, lm=lm), strict=True):
        np.testing.assert_array_equal(one, other)


def test_ctc_without_its_head_is_refused():
    with pytest.raises(ConfigError, match="the model has no CTC head"):
        decode(tiny_model(ctc=False), ctc_weight=0.1)


@pytest.mark.parametrize(
    ("settings", "is_warned"),
    [
        ({}, True),
        ({"length_penalty": 0.5}, False),
        ({"normalisation": "mean"}, False),
        ({"fusion": {"ctc_weight": 0.3}}, False),
        ({"fusion": {"lm_weight": 0.0}}, False),
    ],
)
def test_a_language_model_that_nothing_holds_against_is_warned_of(
    recogniser, lm, caplog, settings, is_warned
):
    """Measured on digits: WER 2.2 without a language model, 60.1 with weight 0.3 and no penalty."""
    fusion = {"lm": str(lm), "lm_weight": 0.3, **settings.pop("fusion", {})}
    Decoder(recogniser, tokenizer(), from_dict(DecodingConfig, {**settings, "fusion": fusion}))
    assert ("weight 0.3 without a length penalty makes the search" in caplog.text) == is_warned


@pytest.mark.parametrize(("weight", "is_warned"), [(0.0, True), (0.3, False)])
def test_a_language_model_without_weight_is_warned_of(recogniser, lm, caplog, weight, is_warned):
    """It is no error: the weight of 0 may be what tuning found best."""
    fusion = {"lm": str(lm), "lm_weight": weight, "ctc_weight": 0.3}
    Decoder(recogniser, tokenizer(), from_dict(DecodingConfig, {"fusion": fusion}))
    assert (f"{lm} has no effect, because fusion.lm_weight is 0" in caplog.text) == is_warned
    assert len(caplog.records) == is_warned
