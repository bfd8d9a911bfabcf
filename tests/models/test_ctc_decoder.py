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
from tfkd.models.decoders.ctc import CtcMemory
from tfkd.models.decoders.ctc_prefix import empty_prefix
from tfkd.models.token_limits import token_limits
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
    _, lengths = model.encode(batch.waveform, batch.num_samples)
    result = decoded(model, batch, beam_width=36, num_hypotheses=31, max_tokens=2)
    for row in range(len(SECONDS)):
        found = {}
        for k, count in enumerate(result.num_tokens[row].numpy()):
            if not count:
                continue
            ids = tuple(result.token_ids[row, k, :count].numpy().tolist())
            found[ids] = float(result.log_prob[row, k])
        ended = [(EOS_ID,), *((piece, EOS_ID) for piece in PIECES)]
        # Equal neighbours need a frame between them.
        pairs = itertools.product(PIECES, repeat=2)
        possible = (pair for pair in pairs if pair[0] != pair[1] or lengths[row] > 2)
        assert found.keys() == {*ended, *possible}
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


def test_what_cannot_be_aligned_is_no_hypothesis(model):
    """Of so short audio there are fewer hypotheses than places in the beam."""
    batch = random_batch(SECONDS)
    _, lengths = model.encode(batch.waveform, batch.num_samples)
    result = decoded(model, batch, beam_width=36, num_hypotheses=36, max_tokens=6)
    for row in range(len(SECONDS)):
        log_probs = result.log_prob[row].numpy()[result.num_tokens[row].numpy() > 0]
        assert (log_probs > -1000).all()
        assert np.exp(log_probs).sum() <= 1 + 1e-4
    longest = result.num_tokens - tf.cast(result.is_finished, tf.int32)
    assert (longest <= tf.expand_dims(lengths, 1)).numpy().all()
    few = decoded(model, batch, beam_width=4, num_hypotheses=4, min_tokens=8, max_tokens=9)
    assert not few.is_finished.numpy().any()


@pytest.mark.slow
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
    with pytest.raises(ConfigError, match="labels.top_m: needs a decoder, which teacher lacks"):
        check_labelling(LabelConfig(top_m=4), from_dict(SystemConfig, alone))


# --- the best path


def argmax_transcript(log_probs):
    """Of [S, V]: the labels, where each begins, and the log-probability of the path, by hand."""
    path, labels, starts = log_probs.argmax(-1), [], []
    for frame, token in enumerate(path):
        if token != PAD_ID and (frame == 0 or token != path[frame - 1]):
            labels.append(int(token))
            starts.append(frame)
    return labels, starts, log_probs.max(-1).sum()


@pytest.mark.parametrize("max_tokens", [40, 2, 1])
def test_width_1_is_the_best_path(model, max_tokens):
    batch = random_batch((0.24, 0.13, 0.2))
    result = decoded(model, batch, beam_width=1, num_hypotheses=1, max_tokens=max_tokens)
    encoded, lengths = model.encode(batch.waveform, batch.num_samples)
    log_probs = model.decoder.memory(encoded, lengths).log_probs.numpy()
    spoken = 0
    for row in range(3):
        labels, starts, path = argmax_transcript(log_probs[row, : lengths[row]])
        count, is_finished = int(result.num_tokens[row, 0]), len(labels) < max_tokens
        expected = ([*labels, EOS_ID] if is_finished else labels)[:max_tokens]
        assert result.token_ids[row, 0, :count].numpy().tolist() == expected
        assert bool(result.is_finished[row, 0]) == is_finished
        assert not result.token_ids[row, 0, count:].numpy().any()
        ends = count - is_finished
        assert result.frames[row, 0, :ends].numpy().tolist() == starts[:ends]
        total = float(tf.reduce_sum(result.token_log_probs[row, 0]))
        assert float(result.log_prob[row, 0]) == pytest.approx(total, abs=1e-4)
        if is_finished:
            assert total == pytest.approx(path, abs=1e-4)
            # One alignment cannot be likelier than all of them.
            assert total <= ctc_log_prob(model, batch, row, labels) + 1e-4
            spoken += len(labels)
    assert spoken > 3 or max_tokens < 40


def test_a_control_at_width_1_takes_the_search_over_prefixes(model):
    batch = random_batch(SECONDS)
    result = decoded(model, batch, beam_width=1, num_hypotheses=1, max_tokens=9, min_tokens=4)
    # The second has too few frames for so many tokens.
    assert result.num_tokens[0, 0] >= 4
    assert result.num_tokens[1, 0] == 0
    count = int(result.num_tokens[0, 0])
    assert result.is_finished[0, 0]
    labels = result.token_ids[0, 0, : count - 1].numpy().tolist()
    expected = ctc_log_prob(model, batch, 0, labels)
    assert float(result.log_prob[0, 0]) == pytest.approx(expected, abs=1e-3)


def certain_log_probs(path):
    """[1, S, V] of a head that is all but certain of the token of each frame."""
    logits = np.zeros((1, len(path), VOCAB_SIZE), np.float32)
    logits[0, np.arange(len(path)), path] = 12.0
    return tf.nn.log_softmax(logits)


@pytest.mark.parametrize("beam_width", [1, 3])
def test_tokens_stand_where_they_begin(model, beam_width, monkeypatch):
    """Both ways of decoding agree, by hand: a begins at frame 1, a again at 5, b at 6."""
    a, b = FIRST_PIECE_ID, FIRST_PIECE_ID + 1
    log_probs = certain_log_probs([PAD_ID, a, a, PAD_ID, PAD_ID, a, b, b, PAD_ID])
    memory = CtcMemory(log_probs, empty_prefix(log_probs))
    monkeypatch.setattr(type(model.decoder), "memory", lambda *_: memory)
    monkeypatch.setattr(model, "encode", lambda *_: (tf.zeros([1, 9, 1]), tf.constant([9])))
    batch = random_batch((0.2,))
    result = decoded(model, batch, beam_width=beam_width, num_hypotheses=1, max_tokens=5)
    assert result.token_ids[0, 0].numpy().tolist() == [a, a, b, EOS_ID, PAD_ID]
    assert result.frames[0, 0].numpy().tolist() == [1, 5, 6, 6, 0]
    assert bool(result.is_finished[0, 0])


@pytest.mark.parametrize(
    ("num_samples", "per_second", "expected"),
    [(16000, 10.0, 10), (48000, 7.0, 21), (16100, 10.0, 11), (8000, 3.0, 2), (0, 5.0, 0)],
)
def test_a_whole_number_of_tokens_is_not_rounded_up(num_samples, per_second, expected):
    """An optimised graph multiplies by 1 / 16000, which is not exact."""
    limits = tf.function(lambda n: token_limits(n, 16000, per_second))
    found = limits(tf.constant([num_samples, 160000]))
    assert found.numpy().tolist() == [expected, 10 * round(per_second)]


def test_without_a_rate_there_are_no_limits():
    assert token_limits(tf.constant([16000]), 16000, None) is None
