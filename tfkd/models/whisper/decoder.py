"""Whisper's decoder: teacher forcing, and one step of many hypotheses with cached keys and values.

The keys and values of the encodings are computed once for each utterance and read by all of its
hypotheses. Those of earlier tokens are not moved when the search reorders hypotheses: each
hypothesis carries the rows of the beam that wrote its earlier tokens, and gathers them.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfkd.models.whisper.layers import (
    FeedForward,
    Float32Layer,
    Projection,
    join_heads,
    layer_norm,
    scaled,
    split_heads,
)
from tfkd.models.whisper.sizes import WhisperSizes


class KeysValues(NamedTuple):
    """Keys and values of one layer, [B, H, T, D] each; `across` holds keys as [B, H, D, T]."""

    keys: tf.Tensor
    values: tf.Tensor


class DecoderMemory(NamedTuple):
    """Keys and values of each layer that stay the same in all steps, for a batch of utterances."""

    across: tuple[KeysValues, ...]  # of the encodings
    prompt: tuple[KeysValues, ...]  # of the prompt's tokens before the last


class DecoderCache(NamedTuple):
    """The state of hypotheses between steps; N is utterances times beam width.

    The arrays belong to all hypotheses together and stay as they are when these are reordered.
    """

    places: tf.Tensor  # [N, U] int32: the row, of an utterance's, that wrote each earlier token
    step: tf.Tensor  # [N] int32
    keys: tuple[tf.TensorArray, ...]  # of each layer; an element [N * H, D] a step
    values: tuple[tf.TensorArray, ...]


class DecoderLayer(Float32Layer):
    """Attention to earlier tokens, attention to the encodings, and a feed-forward layer."""

    def __init__(self, sizes: WhisperSizes, **kwargs) -> None:
        super().__init__(**kwargs)
        self.sizes = sizes
        units = sizes.units
        self.norm = layer_norm("norm")
        self.query_key_value = Projection(3 * units, name="query_key_value")
        self.output_projection = Projection(units, name="output")
        self.across_norm = layer_norm("across_norm")
        self.across_query = Projection(units, name="across_query")
        self.across_key_value = Projection(2 * units, name="across_key_value")
        self.across_output = Projection(units, name="across_output")
        self.feed_forward = FeedForward(units, sizes.decoder_inner_units, name="feed_forward")

    def build(self) -> None:
        for norm in (self.norm, self.across_norm):
            norm.build((None, self.sizes.units))
        for projection in (
            self.query_key_value,
            self.output_projection,
            self.across_query,
            self.across_key_value,
            self.across_output,
        ):
            projection.build(self.sizes.units)
        self.feed_forward.build()
        self.built = True

    def across(self, encoded: tf.Tensor) -> KeysValues:
        """Computes keys [B, H, D, S] and values [B, H, S, D] of encoded [B, S, F]."""
        keys, values = tf.split(self.across_key_value(encoded), 2, -1)
        keys = split_heads(keys, self.sizes.decoder_heads)
        # Transposed once here, not in every step.
        return KeysValues(
            tf.transpose(keys, [0, 1, 3, 2]), split_heads(values, self.sizes.decoder_heads)
        )

    def project(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Computes scaled queries, keys and values, [B, H, T, D] each, of inputs [B, T, F]."""
        projected = tf.split(self.query_key_value(self.norm(inputs)), 3, -1)
        queries, keys, values = [split_heads(x, self.sizes.decoder_heads) for x in projected]
        return scaled(queries), keys, values

    def finish(self, inputs: tf.Tensor, attended: tf.Tensor, across: KeysValues) -> tf.Tensor:
        """Computes the rest of the layer.

        Args:
          inputs: [B, T, F], the inputs of the layer.
          attended: [B, T, F], the outputs of self-attention with their heads joined.
          across: keys and values of the encodings.
        Returns:
          The outputs of the layer [B, T, F].
        """
        hidden = inputs + self.output_projection(attended)
        queries = self.across_query(self.across_norm(hidden))
        queries = scaled(split_heads(queries, self.sizes.decoder_heads))
        alignment = tf.nn.softmax(tf.matmul(queries, across.keys))
        context = join_heads(tf.matmul(alignment, across.values))
        return self.feed_forward(hidden + self.across_output(context))


class WhisperDecoder(Float32Layer):
    """Maps tokens and encodings to logits of the next token."""

    def __init__(self, sizes: WhisperSizes, **kwargs) -> None:
        super().__init__(**kwargs)
        self.sizes = sizes
        self.layers = [
            DecoderLayer(sizes, name=f"layer_{number}") for number in range(sizes.decoder_layers)
        ]
        self.norm = layer_norm("norm")

    def build(self) -> None:
        sizes = self.sizes
        self.embedding = self.add_weight(
            name="embedding", shape=(sizes.vocab_size, sizes.units), initializer="zeros"
        )
        self.positions = self.add_weight(
            name="positions", shape=(sizes.max_positions, sizes.units), initializer="zeros"
        )
        # The transposed embedding: transposing it in every step would take as long as the step.
        self.output_kernel = self.add_weight(
            name="output_kernel", shape=(sizes.units, sizes.vocab_size), initializer="zeros"
        )
        for layer in self.layers:
            layer.build()
        self.norm.build((None, sizes.units))
        self.built = True

    def across(self, encoded: tf.Tensor) -> tuple[KeysValues, ...]:
        """Computes the keys and values of encoded [B, S, F] for each layer."""
        return tuple(layer.across(encoded) for layer in self.layers)

    def memory(self, across: tuple[KeysValues, ...], prompt: tf.Tensor) -> DecoderMemory:
        """Computes the keys and values that every step reads.

        Args:
          across: those of the encodings.
          prompt: [B, P] int32, the tokens before the one that the search starts with.
        """
        return DecoderMemory(across, self._hidden(prompt, across)[1])

    def call(self, token_ids: tf.Tensor, across: tuple[KeysValues, ...]) -> tf.Tensor:
        """Computes logits [B, U, V] of the token after each of token_ids [B, U] int32."""
        return self._logits(self._hidden(token_ids, across)[0])

    def _hidden(
        self, token_ids: tf.Tensor, across: tuple[KeysValues, ...]
    ) -> tuple[tf.Tensor, tuple[KeysValues, ...]]:
        """Returns the last layer's outputs for token_ids [B, U], and each layer's keys, values."""
        steps = tf.shape(token_ids)[1]
        hidden = tf.gather(self.embedding, token_ids) + self.positions[:steps]
        later = 1.0 - tf.linalg.band_part(tf.ones([steps, steps]), -1, 0)
        own = []
        for layer, memory in zip(self.layers, across, strict=True):
            queries, keys, values = layer.project(hidden)
            scores = tf.matmul(queries, keys, transpose_b=True) - 1e9 * later
            attended = tf.matmul(tf.nn.softmax(scores), values)
            hidden = layer.finish(hidden, join_heads(attended), memory)
            own.append(KeysValues(keys, values))
        return hidden, tuple(own)

    def initial_cache(self, batch: tf.Tensor, max_tokens: int) -> DecoderCache:
        """Returns the empty cache of `batch` utterances.

        The search repeats `places` and `step` for each hypothesis; the arrays have room for all.
        """
        units = self.sizes.units // self.sizes.decoder_heads

        def array() -> tf.TensorArray:
            return tf.TensorArray(
                tf.float32, max_tokens, element_shape=[None, units], clear_after_read=False
            )

        return DecoderCache(
            places=tf.zeros([batch, max_tokens], tf.int32),
            step=tf.zeros([batch], tf.int32),
            keys=tuple(array() for _ in self.layers),
            values=tuple(array() for _ in self.layers),
        )

    def step(
        self, token_ids: tf.Tensor, cache: DecoderCache, memory: DecoderMemory, width: int
    ) -> tuple[tf.Tensor, DecoderCache]:
        """Reads one token of each hypothesis.

        Args:
          token_ids: [N] int32; the hypotheses of one utterance are neighbours.
          width: hypotheses of an utterance.
        Returns:
          Logits [N, V] of the next token, and the cache after this token.
        """
        # An utterance at its token limit stays at an earlier step, so the latest one counts.
        count, step = tf.shape(token_ids)[0], tf.reduce_max(cache.step)
        position = step + tf.shape(memory.prompt[0].keys)[2]
        hidden = tf.gather(self.embedding, token_ids) + self.positions[position]
        # [B, W, F]: the hypotheses of an utterance stand where teacher forcing has steps.
        hidden = tf.reshape(hidden, [-1, width, self.sizes.units])
        own_place = tf.expand_dims(tf.range(count) % width, 1)
        is_now = tf.equal(tf.range(cache.places.shape[1]), step)
        places = tf.where(is_now, own_place, cache.places)
        rows = _cache_rows(places[:, : step + 1], width, self.sizes.decoder_heads)
        all_keys, all_values = list(cache.keys), list(cache.values)
        for number, layer in enumerate(self.layers):
            queries, keys, values = layer.project(hidden)
            all_keys[number] = all_keys[number].write(step, _by_row(keys))
            all_values[number] = all_values[number].write(step, _by_row(values))
            past = KeysValues(
                _read(all_keys[number], step, rows, memory.prompt[number].keys, width),
                _read(all_values[number], step, rows, memory.prompt[number].values, width),
            )
            attended = _attend_each(queries, past, width)
            hidden = layer.finish(hidden, attended, memory.across[number])
        cache = DecoderCache(places, cache.step + 1, tuple(all_keys), tuple(all_values))
        return tf.reshape(self._logits(hidden), [count, self.sizes.vocab_size]), cache

    def _logits(self, hidden: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([tf.shape(hidden)[:-1], [self.sizes.vocab_size]], 0)
        rows = tf.reshape(self.norm(hidden), [-1, self.sizes.units])
        return tf.reshape(tf.matmul(rows, self.output_kernel), shape)


def _by_row(values: tf.Tensor) -> tf.Tensor:
    """[B, H, W, D] as [B * W * H, D], the order in which the cache keeps a step."""
    return tf.reshape(tf.transpose(values, [0, 2, 1, 3]), [-1, values.shape[-1]])


def _cache_rows(places: tf.Tensor, width: int, num_heads: int) -> tf.Tensor:
    """Returns the rows [N, H, T] of the stacked cache that belong to each hypothesis.

    Args:
      places: [N, T] int32, the row of its utterance that wrote each token.
    """
    count, steps = tf.shape(places)[0], tf.shape(places)[1]
    first = tf.expand_dims(tf.range(count) // width * width, 1)
    hypothesis = tf.range(steps) * count + first + places
    return tf.expand_dims(hypothesis * num_heads, 1) + tf.range(num_heads)[:, None]


def _read(
    array: tf.TensorArray, step: tf.Tensor, rows: tf.Tensor, prompt: tf.Tensor, width: int
) -> tf.Tensor:
    """Returns the keys or values [N, H, P + T, D] of the prompt and of the tokens after it."""
    units = prompt.shape[-1]
    stacked = tf.reshape(array.gather(tf.range(step + 1)), [-1, units])
    return tf.concat([tf.repeat(prompt, width, 0), tf.gather(stacked, rows)], 2)


def _attend_each(queries: tf.Tensor, past: KeysValues, width: int) -> tf.Tensor:
    """Attends from queries [B, H, W, D] to each hypothesis' past [N, H, T, D]; [B, W, F]."""
    heads, units = queries.shape[1], queries.shape[3]
    of_each = tf.reshape(tf.transpose(queries, [0, 2, 1, 3]), [-1, heads, 1, units])
    alignment = tf.nn.softmax(tf.matmul(of_each, past.keys, transpose_b=True))
    attended = tf.matmul(alignment, past.values)
    return tf.reshape(attended, [-1, width, heads * units])
