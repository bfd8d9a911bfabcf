"""The search fits any recogniser: here a Transformer decoder with a key and value cache."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from brute_force import EOS, PAD, SOS, covering_width, exhaustive, found

from tfkd.beam_search import BeamResult, beam_search
from tfkd.config import SearchControls

VOCABULARY, UNITS, LAYERS, BATCH, FRAMES = 5, 8, 2, 3, 4


class Cache(NamedTuple):
    """What a hypothesis carries from step to step."""

    keys: tf.Tensor  # [N, LAYERS, U, UNITS]
    values: tf.Tensor  # [N, LAYERS, U, UNITS]
    step: tf.Tensor  # [N] int32


class TransformerDecoder:
    """Random weights; attends to what it said and to encoded [B, FRAMES, UNITS]."""

    def __init__(self, max_tokens: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)

        def weights(*shape: int) -> tf.Tensor:
            return tf.constant(rng.normal(size=shape) * 1.5 / np.sqrt(shape[-2]), tf.float32)

        self.max_tokens = max_tokens
        self.encoded = weights(BATCH, FRAMES, UNITS) * 2
        self.embedding, self.positions = weights(VOCABULARY, UNITS), weights(max_tokens, UNITS)
        self.layers = [
            {name: weights(UNITS, UNITS) for name in ("query", "key", "value", "ask", "feed")}
            for _ in range(LAYERS)
        ]
        self.output = weights(UNITS, VOCABULARY)

    def step(self, token_ids: tf.Tensor, cache: Cache) -> tuple[tf.Tensor, Cache]:
        """One token of each hypothesis; the past is read from the cache alone."""
        x = tf.gather(self.embedding, token_ids) + tf.gather(self.positions, cache.step)
        places = tf.range(self.max_tokens)
        is_now = tf.equal(places, cache.step[:, None])[:, :, None]
        is_past = places <= cache.step[:, None]
        encoded = tf.repeat(self.encoded, tf.shape(x)[0] // BATCH, 0)
        keys, values = [], []
        for number, layer in enumerate(self.layers):
            keys.append(tf.where(is_now, (x @ layer["key"])[:, None], cache.keys[:, number]))
            values.append(tf.where(is_now, (x @ layer["value"])[:, None], cache.values[:, number]))
            query = (x @ layer["query"])[:, None]
            x += attend(query, keys[-1], values[-1], is_past[:, None])[:, 0]
            x += attend((x @ layer["ask"])[:, None], encoded, encoded)[:, 0]
            x = normalise(x + tf.nn.relu(x @ layer["feed"]))
        cache = Cache(tf.stack(keys, 1), tf.stack(values, 1), cache.step + 1)
        return tf.nn.log_softmax(x @ self.output), cache

    def whole(self, row: int, token_ids: tf.Tensor) -> tf.Tensor:
        """Log-probs [L, V] after each of token_ids [L] of one utterance, without a cache."""
        length = len(token_ids)
        x = (tf.gather(self.embedding, token_ids) + self.positions[:length])[None]
        is_past = tf.range(length) <= tf.range(length)[:, None]
        encoded = self.encoded[row : row + 1]
        for layer in self.layers:
            x += attend(x @ layer["query"], x @ layer["key"], x @ layer["value"], is_past)
            x += attend(x @ layer["ask"], encoded, encoded)
            x = normalise(x + tf.nn.relu(x @ layer["feed"]))
        return tf.nn.log_softmax(x @ self.output)[0]

    def search(self, width: int, k: int, controls: SearchControls) -> BeamResult:
        empty = tf.zeros([BATCH, LAYERS, self.max_tokens, UNITS])
        result = tf.function(
            lambda: beam_search(
                self.step,
                Cache(empty, empty, tf.zeros([BATCH], tf.int32)),
                batch_size=BATCH,
                beam_width=width,
                num_hypotheses=k,
                max_tokens=self.max_tokens,
                sos_id=SOS,
                eos_id=EOS,
                pad_id=PAD,
                controls=controls,
            ),
            autograph=False,
        )()
        return BeamResult(*(x.numpy() for x in result))


def attend(query, keys, values, is_seen=True):
    scores = tf.matmul(query, keys, transpose_b=True) / np.sqrt(UNITS)
    return tf.nn.softmax(tf.where(is_seen, scores, -1e9)) @ values


def normalise(x):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-5) * 1.5


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 3, 8])
def test_log_probs_are_those_of_the_whole_sequence(width):
    model = TransformerDecoder(max_tokens=7)
    result = model.search(width, width, SearchControls())
    lengths = set()
    for row in range(BATCH):
        for rank, ids in enumerate(found(result, row)):
            log_probs = model.whole(row, (SOS, *ids[:-1])).numpy()
            expected = log_probs[np.arange(len(ids)), ids]
            own = result.token_log_probs[row, rank, : len(ids)]
            np.testing.assert_allclose(own, expected, atol=1e-5)
            np.testing.assert_allclose(result.log_prob[row, rank], expected.sum(), atol=1e-5)
            lengths.add(len(ids))
    assert len(lengths) > 1


@pytest.mark.parametrize(
    "controls", [SearchControls(), SearchControls(normalisation="mean", min_tokens=2)]
)
def test_equals_exhaustive_search(controls):
    model = TransformerDecoder(max_tokens=4, seed=1)
    result = model.search(covering_width(VOCABULARY, 4), 20, controls)
    for row in range(BATCH):

        @functools.cache
        def next_log_probs(prefix, row=row):
            return model.whole(row, (SOS, *prefix))[-1].numpy()

        expected = exhaustive(next_log_probs, 4, controls)[:20]
        assert found(result, row) == [candidate.ids for candidate in expected]
