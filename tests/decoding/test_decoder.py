"""The search over a Recogniser says what teacher forcing says, whatever the batch."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf
from brute_force import exhaustive, found
from helpers import VOCAB_SIZE, random_batch, tiny_config, tiny_model, tokenizer

from tfkd.beam_search import BeamResult, length_penalty
from tfkd.config import DecodingConfig, NoDecoderConfig
from tfkd.decoding import best_path
from tfkd.decoding.decoder import Decoder, decode_dataset
from tfkd.errors import ConfigError
from tfkd.models.recogniser import Recogniser
from tfkd.text import EOS_ID, PAD_ID, SOS_ID

MAX_TOKENS = 7
SECONDS = (0.22, 0.09, 0.15, 0.2, 0.06)
COMBINATIONS = list(itertools.product(("lstm", "gru"), ("additive", "location")))
each_combination = pytest.mark.parametrize(("cell", "attention"), COMBINATIONS)


class Counted:
    """Decodes a `Batch`, and counts how often the model's Python runs."""

    def __init__(self, model, batch_size=None, **settings):
        settings = {"beam_width": 4, "num_hypotheses": 3, "max_tokens": MAX_TOKENS, **settings}
        self.decoder = Decoder(
            model, tokenizer(), DecodingConfig(**settings), batch_size=batch_size
        )
        self.traces, self._encode = 0, model.encode
        model.encode = self._counted

    def _counted(self, *arguments, **named):
        self.traces += 1
        return self._encode(*arguments, **named)

    def __call__(self, batch):
        result = self.decoder.decode(tf.constant(batch.waveform), tf.constant(batch.num_samples))
        return BeamResult(*(x.numpy() for x in result))


def random_recogniser(cell="lstm", attention="additive", seed=1):
    """One that listens, and ends its sentences at different lengths or not at all."""
    model = tiny_model(cell=cell, attention=attention, seed=seed)
    speller = model.decoder
    speller.context_kernel.assign(speller.context_kernel * 3.0)
    speller.attention.energy.assign(speller.attention.energy * 3.0)
    is_end = np.arange(VOCAB_SIZE) == EOS_ID
    speller.output_kernel.assign(np.where(is_end, 0.0, speller.output_kernel))
    speller.output_bias.assign(0.5 * is_end)
    return model


@functools.cache
def decoded(cell, attention):
    """A random recogniser, its decoder, a batch, and what it makes of that."""
    model, batch = random_recogniser(cell, attention), random_batch(SECONDS)
    decode = Counted(model, length_penalty=0.6)
    return model, decode, batch, decode(batch)


def teacher_forced(model, batch, token_ids):
    """Log-probability of each of token_ids [B, K, U], zero where they are padding."""
    inputs = {**batch.inputs(), "token_ids": tf.constant(token_ids)}
    log_probs = tf.nn.log_softmax(model(inputs).logits)
    of_tokens = tf.gather(log_probs, token_ids, batch_dims=3).numpy()
    return np.where(token_ids == PAD_ID, 0.0, of_tokens)


@pytest.mark.slow
def test_the_random_recognisers_listen_and_end_in_both_ways():
    """Otherwise the tests below would show little."""
    results = [decoded(*combination)[-1] for combination in COMBINATIONS]
    is_finished = np.concatenate([r.is_finished for r in results])
    assert 0.2 < is_finished.mean() < 0.95
    assert len(np.unique(np.concatenate([r.num_tokens for r in results]))) > 3
    for result in results:
        assert len(np.unique(result.token_ids[:, 0], axis=0)) > 1
        assert len(np.unique(result.token_ids.reshape(-1, MAX_TOKENS), axis=0)) > 5


@each_combination
def test_log_probs_are_those_of_teacher_forcing(cell, attention):
    model, _, batch, result = decoded(cell, attention)
    assert result.token_ids.shape == (5, 3, MAX_TOKENS)
    assert (result.num_tokens > 0).all()
    expected = teacher_forced(model, batch, result.token_ids)
    np.testing.assert_allclose(result.token_log_probs, expected, atol=1e-5)
    np.testing.assert_allclose(result.log_prob, expected.sum(-1), atol=1e-5)
    np.testing.assert_allclose(result.log_prob, result.token_log_probs.sum(-1), atol=1e-5)
    penalty = length_penalty(result.num_tokens, 0.6).numpy()
    np.testing.assert_allclose(result.score, result.log_prob / penalty, rtol=1e-5)


@each_combination
def test_hypotheses_are_well_formed(cell, attention):
    *_, result = decoded(cell, attention)
    for place in np.ndindex(result.num_tokens.shape):
        ids, count = result.token_ids[place], result.num_tokens[place]
        assert (ids[:count] >= EOS_ID).all(), "a token that is never emitted"
        assert (ids[count:] == PAD_ID).all()
        assert (ids[: count - 1] != EOS_ID).all()
        assert (ids[count - 1] == EOS_ID) == result.is_finished[place]
        assert result.is_finished[place] or count == MAX_TOKENS
    for row in range(len(SECONDS)):
        assert len({ids.tobytes() for ids in result.token_ids[row]}) == 3
        finished = result.is_finished[row]
        assert (np.diff(finished.astype(int)) <= 0).all(), "a cut-off one before a finished one"
        for kind in (finished, ~finished):
            assert (np.diff(result.score[row, kind]) <= 0).all()


@pytest.mark.parametrize("value", [0.5, np.nan])
@each_combination
def test_an_utterance_in_a_batch_is_what_it_is_alone(cell, attention, value):
    model, _, batch, _ = decoded(cell, attention)
    decode = Counted(model, length_penalty=0.6, coverage_penalty=0.2)
    together, padded = decode(batch), decode(batch.padded(777, value=value))
    for row in range(len(SECONDS)):
        for other in (decode(batch.row(row)), BeamResult(*(x[row : row + 1] for x in padded))):
            for name in ("token_ids", "num_tokens", "is_finished"):
                np.testing.assert_array_equal(
                    getattr(other, name)[0], getattr(together, name)[row], err_msg=name
                )
            for name in ("log_prob", "score", "token_log_probs", "coverage"):
                np.testing.assert_allclose(
                    getattr(other, name)[0], getattr(together, name)[row], atol=1e-4, err_msg=name
                )


@pytest.mark.slow
def test_neither_ragged_batches_nor_new_weights_retrace():
    model = random_recogniser()
    decode = Counted(model)
    for seconds in (SECONDS, (0.1,), (0.03, 0.17), (0.11, 0.2, 0.02), (0.01,), (0.25,) * 6):
        batch = random_batch(seconds)
        before = decode(batch)
        assert len(before.token_ids) == len(seconds)
    model.set_weights(random_recogniser(seed=2).get_weights())
    after = decode(batch)
    assert decode.traces == 1
    assert decode.decoder.decode.experimental_get_tracing_count() == 1
    assert not np.array_equal(before.token_ids, after.token_ids)
    expected = teacher_forced(model, batch, after.token_ids)
    np.testing.assert_allclose(after.token_log_probs, expected, atol=1e-4)


def test_a_static_batch_size_gives_the_same():
    _, _, batch, expected = decoded("lstm", "location")
    static = Counted(random_recogniser("lstm", "location"), length_penalty=0.6, batch_size=1)
    for row in range(2):
        for got, value in zip(static(batch.row(row)), expected, strict=True):
            np.testing.assert_allclose(got[0], value[row], atol=1e-4)


def by_steps(model, batch, token_ids):
    """Log-probs [U, V] and the last state of one sequence of the only utterance, step by step."""
    encoded, lengths = model.encode(batch.waveform, batch.num_samples)
    memory, state = model.initial_state(encoded, lengths, MAX_TOKENS)
    log_probs, last = [], SOS_ID
    for token in token_ids:
        of_step, state = model.step(tf.constant([last]), state, memory)
        log_probs.append(of_step[0].numpy())
        last = token
    return np.array(log_probs), state, int(lengths[0])


def test_a_width_of_one_is_greedy():
    model = random_recogniser()
    decode = Counted(model, beam_width=1, num_hypotheses=1)
    for seed in range(3):
        batch = random_batch((0.15,), seed=seed)
        result = decode(batch)
        ids = result.token_ids[0, 0, : result.num_tokens[0, 0]]
        log_probs, *_ = by_steps(model, batch, ids)
        np.testing.assert_array_equal(log_probs.argmax(-1), ids)


def test_the_frame_of_a_token_is_where_attention_was_greatest():
    model, _, batch, together = decoded("lstm", "additive")
    batch, result = batch.row(0), BeamResult(*(x[:1] for x in together))
    for k in range(3):
        count = result.num_tokens[0, k]
        sums = [np.zeros(1)]
        for place in range(1, count + 1):
            _, state, _ = by_steps(model, batch, result.token_ids[0, k, :place])
            sums.append(state.attention_sum[0].numpy())
        alignments = [after - before for before, after in itertools.pairwise(sums)]
        found_frames = result.frames[0, k, :count]
        np.testing.assert_array_equal(found_frames, [a.argmax() for a in alignments])
    assert len(np.unique(together.frames)) > 2


def test_coverage_is_the_share_of_encodings_that_got_attention():
    model, _, batch, together = decoded("lstm", "additive")
    batch, result = batch.row(0), BeamResult(*(x[:1] for x in together))
    for k in range(3):
        ids = result.token_ids[0, k, : result.num_tokens[0, k]]
        _, state, length = by_steps(model, batch, ids)
        attended = np.minimum(state.attention_sum[0].numpy(), 1.0)
        assert result.coverage[0, k] == pytest.approx(attended.sum() / length, abs=1e-4)
    assert ((together.coverage > 0) & (together.coverage <= 1)).all()


def dataset_batch(batch, texts):
    """A batch as `tfkd.data.audio_batches.audio_batches` gives them."""
    return {
        "waveform": tf.constant(batch.waveform),
        "num_samples": tf.constant(batch.num_samples),
        "utterance_id": tf.constant([f"utterance-{n}" for n in range(len(texts))]),
        "text": tf.constant([text or "" for text in texts]),
        "has_text": tf.constant([text is not None for text in texts]),
    }


def test_a_decoded_dataset_keeps_utterances_apart():
    _, counted, batch, expected = decoded("gru", "additive")
    texts = ["a b", None, "", "d", None]
    utterances = list(decode_dataset(counted.decoder, [dataset_batch(batch, texts)] * 2))
    assert [u.utterance_id for u in utterances] == [f"utterance-{n}" for n in range(5)] * 2
    assert [u.reference for u in utterances] == texts * 2
    for row, utterance in enumerate(utterances[:5]):
        assert utterance.num_samples == batch.num_samples[row]
        np.testing.assert_array_equal(utterance.result.token_ids, expected.token_ids[row])
        np.testing.assert_array_equal(utterance.result.log_prob, expected.log_prob[row])
        said = [
            "".join(" abcd"[i - EOS_ID - 1] for i in ids if i > EOS_ID)
            for ids in expected.token_ids[row]
        ]
        assert list(utterance.texts) == [" ".join(text.split()) for text in said]
        assert utterance.best_text == utterance.texts[0]


def test_empty_places_of_the_k_best_are_left_out():
    """A vocabulary of six sequences of at most one token cannot fill eight places."""
    model = random_recogniser()
    counted = Counted(model, beam_width=8, num_hypotheses=8, max_tokens=1)
    batch = random_batch((0.2, 0.1))
    utterances = list(decode_dataset(counted.decoder, [dataset_batch(batch, ["a", "b"])]))
    for utterance in utterances:
        assert len(utterance.texts) == 6
        assert all(len(x) == 6 for x in utterance.result)
        assert (utterance.result.num_tokens == 1).all()
    nothing = dataclasses.replace(batch, num_samples=np.zeros(2, np.int32))
    for utterance in decode_dataset(counted.decoder, [dataset_batch(nothing, ["a", "b"])]):
        assert np.isfinite(utterance.result.log_prob).all()
    assert utterances[0]._replace(texts=()).best_text == ""


@pytest.mark.slow
@each_combination
def test_the_k_best_equal_exhaustive_search(cell, attention):
    """Every sequence of at most two of the six tokens that may be emitted."""
    model, batch = random_recogniser(cell, attention), random_batch((0.15,))
    controls = DecodingConfig(
        beam_width=36, num_hypotheses=31, max_tokens=2, normalisation="mean", coverage_penalty=0.1
    )
    result = Counted(model, **vars(controls))(batch)

    @functools.cache
    def after(prefix):
        return by_steps(model, batch, (*prefix, EOS_ID))

    def log_coverage(fed):
        _, state, length = after(fed)
        attended = np.clip(state.attention_sum[0, :length].numpy(), 1e-4, 1.0)
        return np.log(attended).sum()

    expected = exhaustive(
        lambda prefix: after(prefix)[0][-1], 2, controls, (), log_coverage, eos_id=EOS_ID
    )
    assert len(expected) == 31
    assert found(result, 0) == [candidate.ids for candidate in expected]
    scores = [candidate.score for candidate in expected]
    np.testing.assert_allclose(result.score[0], scores, atol=1e-4)


@pytest.mark.slow
def test_audio_without_an_encoding_or_with_one_decodes():
    model = random_recogniser()
    decode = Counted(model, coverage_penalty=0.1, max_tokens_per_second=100.0)
    batch = random_batch((0.2, 0.2, 0.2, 0.05))
    batch = dataclasses.replace(batch, num_samples=np.array([0, 1, 201, 400], np.int32))
    result = decode(batch)
    for value in (result.log_prob, result.score, result.coverage):
        assert np.isfinite(value).all()
    assert (result.num_tokens.max(1) <= [0, 0, 0, 5]).all()
    # Nobody says a word in less than 50 ms.
    assert (result.num_tokens[:, 0] > 0).tolist() == [False, False, False, True]


def test_the_limit_by_seconds_is_that_of_each_utterance():
    model, batch = random_recogniser(), random_batch(SECONDS)
    model.decoder.output_bias.assign_add(-9.0 * (np.arange(VOCAB_SIZE) == EOS_ID))
    result = Counted(model, max_tokens_per_second=25.0)(batch)
    assert not result.is_finished.any()
    assert (result.num_tokens == np.ceil(np.array(SECONDS) * 25)[:, None]).all()
    expected = teacher_forced(model, batch, result.token_ids)
    np.testing.assert_allclose(result.token_log_probs, expected, atol=1e-4)


def test_a_model_without_attention_has_no_coverage_to_penalise():
    config = dataclasses.replace(tiny_config(), decoder=NoDecoderConfig())
    model = Recogniser(config, VOCAB_SIZE)
    Decoder(model, tokenizer(), DecodingConfig())
    with pytest.raises(ConfigError, match="coverage_penalty: the model has no attention"):
        Decoder(model, tokenizer(), DecodingConfig(coverage_penalty=0.1))


@pytest.mark.parametrize(("settings", "is_enough"), [({}, True), ({"temperature": 2.0}, False)])
def test_a_temperature_needs_the_search_over_prefixes(settings, is_enough):
    config = DecodingConfig(beam_width=1, **settings)
    assert best_path.is_enough(config) == is_enough


def test_an_empty_batch_has_no_results():
    decoder = Decoder(random_recogniser(), tokenizer(), DecodingConfig(beam_width=2))
    for samples in (0, 800):
        result = decoder.decode(tf.zeros([0, samples]), tf.zeros([0], tf.int32))
        assert result.token_ids.shape == (0, 1, 200)
        assert result.log_prob.shape == (0, 1)
