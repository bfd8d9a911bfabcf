"""The Transformer decoder; its state in a search is a KV cache."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import keras
import tensorflow as tf

from tfkd.config import TransformerDecoderConfig, from_dict
from tfkd.layers.dropout import Dropout
from tfkd.layers.layer_norm import LayerNormalization
from tfkd.layers.static_shape import dimensions
from tfkd.layers.transformer import (
    FeedForward,
    Linear,
    MultiHeadAttention,
    layer_norm,
    mask_bias,
    sinusoids,
)
from tfkd.models.decoders.attending import AttendingDecoder


class TransformerMemory(NamedTuple):
    """Tensors that every step reads; L layers, H heads of size d.

    They are kept once for each utterance; the queries of its K hypotheses form one sequence.
    """

    keys: tuple[tf.Tensor, ...]  # L times [B, H, S, d]
    values: tuple[tf.Tensor, ...]  # L times [B, H, S, d]
    bias: tf.Tensor  # [B, 1, 1, S], very negative beyond the utterance


class TransformerState(NamedTuple):
    """The state that one hypothesis carries from step to step; its shapes stay the same."""

    keys: tuple[tf.Tensor, ...]  # L times [N, H, U, d]; later steps than `step` are zero
    values: tuple[tf.Tensor, ...]  # L times [N, H, U, d]
    step: tf.Tensor  # [N] int32: the number of steps so far
    attention_sum: tf.Tensor  # [N, S]: the sum of the last layer's alignments, mean over heads
    peak_frame: tf.Tensor  # [N] int32: where the last alignment was greatest


@keras.saving.register_keras_serializable("tfkd")
class DecoderBlock(keras.layers.Layer):
    """Self-attention, cross-attention and a feed-forward layer, each with a normalised input."""

    def __init__(self, config: TransformerDecoderConfig | dict, **kwargs) -> None:
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = from_dict(TransformerDecoderConfig, config)
        self.config, dtype = config, self.dtype_policy
        heads = config.units, config.heads
        self.itself = MultiHeadAttention(*heads, name="itself", dtype=dtype)
        self.cross = MultiHeadAttention(*heads, name="cross", dtype=dtype)
        self.feed = FeedForward(config.units, config.feed_forward_units, name="feed", dtype=dtype)
        self.norms = {
            name: LayerNormalization(name=f"norm_{name}", dtype=dtype)
            for name in ("itself", "cross", "feed")
        }
        self.dropout = Dropout(config.dropout, dtype=dtype)

    def build(self, encoded_units: int) -> None:
        """Creates every weight for encodings of `encoded_units` units."""
        self.itself.build(self.config.units)
        self.cross.build(encoded_units)
        self.feed.build()
        for norm in self.norms.values():
            norm.build((None, None, self.config.units))
        self.built = True

    def norm(self, name: str, x: tf.Tensor) -> tf.Tensor:
        """Normalises the input of the part `name`."""
        return layer_norm(self.norms[name], x)

    def get_config(self) -> dict:
        """Returns the config, from which Keras rebuilds the layer."""
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}


@keras.saving.register_keras_serializable("tfkd")
class TransformerDecoder(AttendingDecoder):
    """Maps tokens and encodings to logits of the next token.

    References:
      Vaswani et al. 2017, arXiv:1706.03762, section 3.1; Dong et al. 2018, "Speech-Transformer".
    """

    def __init__(self, config: TransformerDecoderConfig | dict, vocab_size: int, **kwargs) -> None:
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = from_dict(TransformerDecoderConfig, config)
        self.config, self.vocab_size, dtype = config, vocab_size, self.dtype_policy
        self.blocks = [
            DecoderBlock(config, name=f"block_{i}", dtype=dtype) for i in range(config.layers)
        ]
        self.norm = LayerNormalization(name="norm", dtype=dtype)
        self.output_layer = Linear(vocab_size, name="output", dtype=dtype)
        self.dropout = Dropout(config.dropout, dtype=dtype)

    def build(self, encoded_units: int) -> None:
        """Creates every weight for encodings of `encoded_units` units."""
        units = self.config.units
        self.embedding = self.add_weight(
            name="embedding",
            shape=(self.vocab_size, units),
            initializer=keras.initializers.RandomNormal(stddev=units**-0.5),
        )
        for block in self.blocks:
            block.build(encoded_units)
        self.norm.build((None, None, units))
        self.output_layer.build((None, units))
        self.built = True

    def memory(self, encoded: tf.Tensor, encoded_lengths: tf.Tensor) -> TransformerMemory:
        """Computes keys and values of encoded [B, S, D] for each layer."""
        pairs = [block.cross.keys_and_values(encoded) for block in self.blocks]
        is_inside = tf.range(dimensions(encoded)[1]) < tf.expand_dims(encoded_lengths, 1)
        bias = tf.expand_dims(tf.expand_dims(mask_bias(is_inside), 1), 1)
        keys, values = zip(*pairs, strict=True)
        return TransformerMemory(keys, values, bias)

    def initial_state(self, encoded: tf.Tensor, max_tokens: int | tf.Tensor) -> TransformerState:
        """Makes an empty KV cache for max_tokens of one hypothesis an utterance."""
        batch, frames, _ = dimensions(encoded)
        heads = self.config.heads
        cache = tf.zeros([batch, heads, max_tokens, self.config.units // heads], encoded.dtype)
        empty = tuple(cache for _ in self.blocks)
        return TransformerState(
            keys=empty,
            values=empty,
            step=tf.zeros([batch], tf.int32),
            attention_sum=tf.zeros([batch, frames], encoded.dtype),
            peak_frame=tf.zeros([batch], tf.int32),
        )

    def step(
        self, token_ids: tf.Tensor, state: TransformerState, memory: TransformerMemory
    ) -> tuple[tf.Tensor, TransformerState]:
        """Maps token_ids [N] int32 and the state to logits [N, V] and the next state."""
        units = self.config.units
        x = tf.expand_dims(self._embedded(token_ids, state.step), 1)  # [N, 1, units]
        places = tf.range(dimensions(state.keys[0])[2])
        is_now = tf.equal(places, tf.expand_dims(state.step, 1))
        is_now = tf.expand_dims(tf.expand_dims(is_now, 1), -1)  # [N, 1, U, 1]
        is_past = places <= tf.expand_dims(state.step, 1)
        past = tf.expand_dims(tf.expand_dims(mask_bias(is_past), 1), 1)  # [N, 1, 1, U]
        batch = dimensions(memory.bias)[0]
        keys, values = [], []
        weights = tf.zeros([])
        for number, block in enumerate(self.blocks):
            seen = block.norm("itself", x)
            key, value = block.itself.keys_and_values(seen)
            # Write with a select, because a scatter is slow in TFLite.
            keys.append(tf.where(is_now, key, state.keys[number]))
            values.append(tf.where(is_now, value, state.values[number]))
            x += block.itself.attend(seen, keys[-1], values[-1], past)[0]
            asked = tf.reshape(block.norm("cross", x), [batch, -1, units])  # [B, K, units]
            attended, weights = block.cross.attend(
                asked, memory.keys[number], memory.values[number], memory.bias
            )
            x += tf.reshape(attended, tf.shape(x))
            x += block.feed.call(block.norm("feed", x))
        alignment = tf.reshape(tf.reduce_mean(weights, 1), tf.shape(state.attention_sum))
        state = TransformerState(
            tuple(keys),
            tuple(values),
            state.step + 1,
            state.attention_sum + alignment,
            tf.argmax(alignment, -1, tf.int32),
        )
        return self._logits(tf.squeeze(x, 1)), state

    def _embedded(self, token_ids: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """Embeds token_ids [...] with their positions, whose shape broadcasts to theirs."""
        units = self.config.units
        embedded = tf.gather(tf.convert_to_tensor(self.embedding), token_ids) * units**0.5
        return embedded + tf.cast(sinusoids(positions, units), embedded.dtype)

    def _logits(self, x: tf.Tensor) -> tf.Tensor:
        """Projects x [..., units] to logits [..., V]."""
        return self.output_layer.call(layer_norm(self.norm, x))

    def teacher_forced(
        self, token_ids: tf.Tensor, encoded: tf.Tensor, memory: TransformerMemory, training: bool
    ) -> tf.Tensor:
        """Maps inputs [N, U] to logits [N, U, V].

        The queries of an utterance's K hypotheses form one sequence of K * U.
        """
        batch, steps = dimensions(encoded)[0], dimensions(token_ids)[1]
        units = self.config.units
        positions = tf.range(steps)
        past = mask_bias(positions <= tf.expand_dims(positions, 1))  # [U, U]

        def added(x: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
            return x + self.dropout.call(tf.reshape(part, tf.shape(x)), training=training)

        x = self._embedded(token_ids, positions)
        x = self.dropout.call(x, training=training)
        for block, keys, values in zip(self.blocks, memory.keys, memory.values, strict=True):
            seen = block.norm("itself", x)
            x = added(x, block.itself.attend(seen, *block.itself.keys_and_values(seen), past)[0])
            asked = tf.reshape(block.norm("cross", x), [batch, -1, units])
            x = added(x, block.cross.attend(asked, keys, values, memory.bias)[0])
            x = added(x, block.feed.call(block.norm("feed", x)))
        return self._logits(x)
