"""CTC alone, through the search: log_probs are TensorFlow's, and the k best are exhaustive."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
from families import family_model
from helpers import VOCAB_SIZE, random_batch, tokenizer

from tfkd.config import (
    DecodingConfig,
    LabelConfig,
    ModelConfig,
    SystemConfig,
    check_labelling,
    from_dict,
)
from tfkd.decoding.decoder import Decoder
from tfkd.errors import ConfigError
from tfkd.text import EOS_ID, FIRST_PIECE_ID, PAD_ID

SECONDS = (0.1, 0.06)
PIECES = range(FIRST_PIECE_ID, VOCAB_SIZE)


@pytest.fixture(scope="module")
def model():
    return family_model("ctc", gain=1.5)


def decoded(model, batch, **config):
    decoder = Decoder(model, tokenizer(), DecodingConfig(**config))
    return decoder.decode(tf.constant(batch.waveform), tf.constant(batch.num_samples))


def ctc_log_prob(model, batch, row, labels):
    """TensorFlow's CTC log-probability of labels, special tokens being impossible."""
    encoded, lengths = model.encode(batch.waveform, batch.num_samples)
    never = np.isin(np.arange(VOCAB_SIZE), [1, 2, EOS_ID]) * -1e9
    logits = model.ctc_logits(encoded)[row : row + 1] + never.astype(np.float32)
    if not labels:
        log_probs = tf.nn.log_softmax(logits)[0, : lengths[row], PAD_ID]
        return float(tf.reduce_sum(log_probs))
    loss = tf.nn.ctc_loss(
        tf.constant([labels]), logits, tf.constant([len(labels)]), lengths[row : row + 1],
        logits_time_major=False, blank_index=PAD_ID,
    )  # fmt: skip
    return -float(loss[0])


def test_texts_share_out_all_of_the_probability(model):
    """Of at most one piece and their end, or cut off after two: log_probs are those of CTC."""
    batch = random_batch(SECONDS)
    result = decoded(model, batch, beam_width=36, num_hypotheses=31, max_tokens=2)
    for row in range(len(SECONDS)):
        found = {}
        for k in range(31):
            count = int(result.num_tokens[row, k])
            ids = tuple(result.token_ids[row, k, :count].numpy().tolist())
            found[ids] = float(result.log_prob[row, k])
        ended = [(EOS_ID,), *((piece, EOS_ID) for piece in PIECES)]
        assert found.keys() == {*ended, *itertools.product(PIECES, repeat=2)}
        for ids in ended:
            expected = ctc_log_prob(model, batch, row, list(ids[:-1]))
            assert found[ids] == pytest.approx(expected, abs=1e-3)
        assert np.exp(list(found.values())).sum() == pytest.approx(1, abs=1e-4)
        places = [ids for ids in found if ids in ended]
        assert places == sorted(ended, key=found.get, reverse=True)


def test_log_probs_are_those_of_ctc_at_any_width(model):
    batch = random_batch((0.24, 0.13, 0.2))
    result = decoded(model, batch, beam_width=3, num_hypotheses=3, max_tokens=9)
    _, lengths = model.encode(batch.waveform, batch.num_samples)
    finished = 0
    for row, k in np.ndindex(3, 3):
        if result.is_finished[row, k]:
            count = int(result.num_tokens[row, k])
            labels = result.token_ids[row, k, : count - 1].numpy().tolist()
            expected = ctc_log_prob(model, batch, row, labels)
            assert float(result.log_prob[row, k]) == pytest.approx(expected, abs=1e-3)
            np.testing.assert_allclose(
                tf.reduce_sum(result.token_log_probs[row, k]), result.log_prob[row, k], atol=1e-4
            )
            frames = result.frames[row, k, : count - 1].numpy()
            assert frames.max(initial=0) < lengths[row]
            finished += 1
    assert finished >= 3
    np.testing.assert_array_equal(result.coverage, 1.0)


def test_the_ctc_weight_of_a_fusion_changes_nothing(model):
    """The head is all that there is: it cannot join itself."""
    batch = random_batch(SECONDS)
    plain = decoded(model, batch, beam_width=2, num_hypotheses=2, max_tokens=5)
    decoding = from_dict(
        DecodingConfig,
        {"beam_width": 2, "num_hypotheses": 2, "max_tokens": 5, "fusion": {"ctc_weight": 0.3}},
    )
    fused = Decoder(model, tokenizer(), decoding).decode(
        tf.constant(batch.waveform), tf.constant(batch.num_samples)
    )
    np.testing.assert_array_equal(fused.token_ids, plain.token_ids)
    np.testing.assert_allclose(fused.score, plain.score, atol=1e-5)


def test_settings_without_a_head_or_with_another_loss_are_refused():
    with pytest.raises(ConfigError, match="ctc: must be true where decoder.kind is none"):
        from_dict(ModelConfig, {"decoder": {"kind": "none"}, "ctc": False})
    with pytest.raises(ConfigError, match="training.ctc_weight: must be 1"):
        from_dict(SystemConfig, {"model": {"decoder": {"kind": "none"}}})
    alone = {"model": {"decoder": {"kind": "none"}}, "training": {"ctc_weight": 1}}
    with pytest.raises(ConfigError, match="word_kd needs a decoder"):
        from_dict(
            SystemConfig, {**alone, "training": {"ctc_weight": 1, "objective": {"kind": "word_kd"}}}
        )
    with pytest.raises(ConfigError, match="labels.top_m: needs a teacher with a decoder"):
        check_labelling(LabelConfig(top_m=4), from_dict(SystemConfig, alone))
