"""The convolutional decoder; its state in a search is the last few inputs of each layer."""

from __future__ import annotations

from typing import NamedTuple

import keras
import tensorflow as tf

from tfkd.config import ConvolutionalDecoderConfig, from_dict
from tfkd.layers.convolution import GatedConvolution
from tfkd.layers.dropout import Dropout
from tfkd.layers.layer_norm import LayerNormalization
from tfkd.layers.static_shape import dimensions
from tfkd.layers.transformer import Linear, layer_norm, mask_bias, sinusoids
from tfkd.models.decoders.attending import AttendingDecoder


class ConvolutionalMemory(NamedTuple):
    """Tensors of an utterance that every step reads."""

    keys: tf.Tensor  # [B, S, units]
    values: tf.Tensor  # [B, S, units]
    bias: tf.Tensor  # [B, 1, S], very negative beyond the utterance


class ConvolutionalState(NamedTuple):
    """The state that one hypothesis carries from step to step."""

    inputs: tuple[tf.Tensor, ...]  # of each layer [N, width - 1, units]: its last inputs
    step: tf.Tensor  # [N] int32: the number of steps so far
    attention_sum: tf.Tensor  # [N, S]: the sum of the last layer's alignments
    peak_frame: tf.Tensor  # [N] int32: where the last alignment was greatest


@keras.saving.register_keras_serializable("tfkd")
class ConvolutionalDecoder(AttendingDecoder):
    """Causal gated convolutions over the tokens, each followed by attention to the encodings.

    The query of each layer is its output plus the embedding of the last token; the attended context
    is added to the output ("multi-step attention"). All layers share keys and values.

    References:
      Gehring et al. 2017, arXiv:1705.03122, section 3.3; here layer normalisation of each layer's
      input replaces their weight normalisation.
    """

    def __init__(
        self, config: ConvolutionalDecoderConfig | dict, vocab_size: int, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = from_dict(ConvolutionalDecoderConfig, config)
        self.config, self.vocab_size, dtype = config, vocab_size, self.dtype_policy
        units, layers = config.units, range(config.layers)
        self.blocks = [
            GatedConvolution(units, config.width, True, name=f"block_{i}", dtype=dtype)
            for i in layers
        ]
        self.queries = [Linear(units, name=f"query_{i}", dtype=dtype) for i in layers]
        self.norms = [
            LayerNormalization(name=f"norm_{i}", dtype=dtype) for i in range(config.layers + 1)
        ]
        self.key, self.value = (Linear(units, name=n, dtype=dtype) for n in ("key", "value"))
        self.output_layer = Linear(vocab_size, name="output", dtype=dtype)
        self.dropout = Dropout(config.dropout, dtype=dtype)

    def build(self, encoded_units: int) -> None:
        """Creates every weight for encodings of `encoded_units` units."""
        units = self.config.units
        self.embedding = self.add_weight(
            name="embedding",
            shape=(self.vocab_size, units),
            initializer=keras.initializers.RandomNormal(stddev=0.1),
        )
        for layer in (self.key, self.value):
            layer.build((None, encoded_units))
        for layer in (*self.queries, self.output_layer):
            layer.build((None, units))
        for block in self.blocks:
            block.build()
        for norm in self.norms:
            norm.build((None, None, units))
        self.built = True

    def memory(self, encoded: tf.Tensor, encoded_lengths: tf.Tensor) -> ConvolutionalMemory:
        """Computes keys and values of encoded [B, S, D]."""
        is_inside = tf.range(dimensions(encoded)[1]) < tf.expand_dims(encoded_lengths, 1)
        bias = tf.expand_dims(mask_bias(is_inside), 1)
        return ConvolutionalMemory(self.key.call(encoded), self.value.call(encoded), bias)

    def initial_state(self, encoded: tf.Tensor, max_tokens: int | tf.Tensor) -> ConvolutionalState:
        """Makes the state of one empty hypothesis an utterance: all earlier inputs are zero."""
        batch, frames, _ = dimensions(encoded)
        nothing = tf.zeros([batch, self.config.width - 1, self.config.units], encoded.dtype)
        return ConvolutionalState(
            inputs=tuple(nothing for _ in self.blocks),
            step=tf.zeros([batch], tf.int32),
            attention_sum=tf.zeros([batch, frames], encoded.dtype),
            peak_frame=tf.zeros([batch], tf.int32),
        )

    def step(
        self, token_ids: tf.Tensor, state: ConvolutionalState, memory: ConvolutionalMemory
    ) -> tuple[tf.Tensor, ConvolutionalState]:
        """Maps token_ids [N] int32 and the state to logits [N, V] and the next state."""
        units, width = self.config.units, self.config.width
        embedded = self._embedded(token_ids, state.step)
        x, kept = embedded, []
        alignment = tf.zeros([])
        for number, (block, earlier) in enumerate(zip(self.blocks, state.inputs, strict=True)):
            seen = tf.expand_dims(layer_norm(self.norms[number], x), 1)
            window = tf.concat([earlier, seen], 1)  # [N, width, units]
            kept.append(window[:, 1:])
            made = block.of_windows(tf.reshape(window, [-1, width * units]))
            added, alignment = self._attend(number, made + embedded, memory)
            x += made + added
        alignment = tf.reshape(alignment, tf.shape(state.attention_sum))
        state = ConvolutionalState(
            tuple(kept),
            state.step + 1,
            state.attention_sum + alignment,
            tf.argmax(alignment, -1, tf.int32),
        )
        return self._logits(x), state

    def _attend(
        self, number: int, asked: tf.Tensor, memory: ConvolutionalMemory
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attends to the encodings with queries from asked [..., units].

        The queries of all hypotheses of an utterance form one sequence.

        Returns:
          The context in the shape of `asked`, and the alignment [B, *, S].
        """
        units = self.config.units
        batch = dimensions(memory.bias)[0]
        queries = self.queries[number].call(asked) * units**-0.5
        queries = tf.reshape(queries, [batch, -1, units])
        energies = tf.cast(tf.matmul(queries, memory.keys, transpose_b=True), tf.float32)
        alignment = tf.nn.softmax(energies + memory.bias)
        context = tf.matmul(tf.cast(alignment, memory.values.dtype), memory.values)
        return tf.reshape(context, tf.shape(asked)), alignment

    def _embedded(self, token_ids: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """Embeds token_ids [...] with their positions, whose shape broadcasts to theirs."""
        embedded = tf.gather(tf.convert_to_tensor(self.embedding), token_ids)
        return embedded + tf.cast(sinusoids(positions, self.config.units), embedded.dtype)

    def _logits(self, x: tf.Tensor) -> tf.Tensor:
        """Projects x [..., units] to logits [..., V]."""
        return self.output_layer.call(layer_norm(self.norms[-1], x))

    def teacher_forced(
        self, token_ids: tf.Tensor, encoded: tf.Tensor, memory: ConvolutionalMemory, training: bool
    ) -> tf.Tensor:
        """Maps inputs [N, U] to logits [N, U, V]."""
        embedded = self._embedded(token_ids, tf.range(dimensions(token_ids)[1]))
        x = self.dropout.call(embedded, training=training)
        for number, block in enumerate(self.blocks):
            made = block.call(layer_norm(self.norms[number], x))
            made = self.dropout.call(made, training=training)
            added, _ = self._attend(number, made + embedded, memory)
            x += made + added
        return self._logits(x)
