"""The recurrent decoder of several layers, with or without input feeding and sampling."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfkd.config import AttentionConfig, DecoderConfig, from_dict
from tfkd.layers.attention_kinds import AttentionStep, make_attention
from tfkd.layers.cells import state_units
from tfkd.layers.dropout import Dropout
from tfkd.layers.emission import emission_bias
from tfkd.layers.matmul import project
from tfkd.layers.recurrent_cell import RecurrentCell
from tfkd.layers.replicas import ReplicaSeeds
from tfkd.layers.static_shape import dimensions
from tfkd.models.decoders.attending import AttendingDecoder


class StackedState(NamedTuple):
    """The state that one hypothesis carries from step to step; L layers."""

    hidden: tuple[tf.Tensor, ...]  # L times [N, H]
    cell: tuple[tf.Tensor, ...]  # L times [N, H]; [N, 0] for a GRU
    context: tf.Tensor  # [N, D]
    attention_sum: tf.Tensor  # [N, S]: the sum of the alignments so far
    peak_frame: tf.Tensor  # [N] int32: where the last alignment was greatest


@keras.saving.register_keras_serializable("tfkd")
class StackedCell(RecurrentCell):
    """One layer of the decoder, which is run step by step."""

    def call(
        self, inputs: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps inputs [N, F] and the state, [N, H] each, to the next hidden state and cell."""
        return self.step(inputs, hidden, cell)


@keras.saving.register_keras_serializable("tfkd")
class StackedDecoder(AttendingDecoder):
    """Maps the last token and the state to logits of the next token, through several layers.

    The output of the last layer queries the attention; logits come from that output and the
    context. With input feeding, the first layer also reads the last context. In training, a share
    of the steps may read tokens that are drawn from the model's own predictions.

    TensorFlow differentiates the loop over steps; `AttentionDecoder`, of one layer, has a gradient
    of its own and trains faster.

    References:
      Mun'im et al. 2019, arXiv:1811.04531, table 1; Bengio et al. 2015, arXiv:1506.03099,
      section 2.4 (scheduled sampling).
    """

    def __init__(
        self,
        config: DecoderConfig | dict,
        attention: AttentionConfig | dict,
        vocab_size: int,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.config = from_dict(DecoderConfig, config) if isinstance(config, dict) else config
        dtype = self.dtype_policy
        self.attention = make_attention(attention, name="attention", dtype=dtype)
        self.vocab_size = vocab_size
        self.cells = [
            StackedCell(
                self.config.cell, self.config.units, self.config.rank, name=f"cell_{i}", dtype=dtype
            )
            for i in range(self.config.layers)
        ]
        self.dropout = Dropout(self.config.dropout, dtype=dtype)
        if self.config.teacher_forcing_rate < 1:
            self.seed_generator = ReplicaSeeds()

    def build(self, encoded_units: int) -> None:
        """Creates every weight for encodings of `encoded_units` units."""
        units = self.config.units
        self.encoded_units = encoded_units
        self.embedding = self.add_weight(
            name="embedding",
            shape=(self.vocab_size, self.config.embedding_units),
            initializer=keras.initializers.RandomNormal(stddev=0.1),
        )
        width = self.config.embedding_units + encoded_units * self.config.input_feeding
        for cell in self.cells:
            cell.build((None, width))
            width = units
        self.attention.build(encoded_units, units)
        self.output_kernel = self.add_weight(
            name="output_kernel", shape=(units + encoded_units, self.vocab_size)
        )
        self.output_bias = self.add_weight(
            name="output_bias", shape=(self.vocab_size,), initializer="zeros"
        )
        self.built = True

    def memory(self, encoded: tf.Tensor, encoded_lengths: tf.Tensor) -> Any:
        """Computes the keys that attention reads, from encoded [B, S, D] and its lengths [B]."""
        return self.attention.memory(encoded, encoded_lengths)

    def initial_state(self, encoded: tf.Tensor, max_tokens: int | tf.Tensor) -> StackedState:
        """Makes the zero state of one hypothesis for each utterance of encoded [B, S, D]."""
        return self._zero_state(encoded, dimensions(encoded)[0])

    def _zero_state(self, encoded: tf.Tensor, count: int | tf.Tensor) -> StackedState:
        def zeros(*shape: int | tf.Tensor) -> tf.Tensor:
            return tf.zeros([count, *shape], encoded.dtype)

        units, layers = self.config.units, range(self.config.layers)
        return StackedState(
            hidden=tuple(zeros(units) for _ in layers),
            cell=tuple(zeros(state_units(self.config.cell, units)) for _ in layers),
            context=zeros(self.encoded_units),
            attention_sum=zeros(dimensions(encoded)[1]),
            peak_frame=tf.zeros([count], tf.int32),
        )

    def step(
        self, token_ids: tf.Tensor, state: StackedState, memory: Any
    ) -> tuple[tf.Tensor, StackedState]:
        """Maps token_ids [N] int32 and the state to logits [N, V] and the next state."""
        # `__call__` would cast to the precision of training; a search computes in float32.
        attention = functools.partial(self.attention.call, memory=memory)
        outputs, state = self._outputs(token_ids, state, attention, self._kept(None))
        return self._logits(outputs), state

    def _kept(self, count: int | tf.Tensor | None, training: bool = False) -> list[tf.Tensor]:
        """Draws the dropout factors [N, H] of each layer's outputs, the same at all steps."""
        if not training or not self.config.dropout:
            return [tf.ones([], self.compute_dtype)] * self.config.layers
        ones = tf.ones([count, self.config.units], self.compute_dtype)
        return [self.dropout(ones, training=True) for _ in self.cells]

    def _outputs(
        self,
        token_ids: tf.Tensor,
        state: StackedState,
        attention: AttentionStep,
        kept: list[tf.Tensor],
    ) -> tuple[tf.Tensor, StackedState]:
        """Output and context [N, H + D] of one step, and the next state."""
        embedding = tf.convert_to_tensor(self.embedding)
        inputs = tf.cast(tf.gather(embedding, token_ids), state.context.dtype)
        if self.config.input_feeding:
            inputs = tf.concat([inputs, state.context], -1)
        hiddens, cells = [], []
        for layer, factors, hidden, cell in zip(
            self.cells, kept, state.hidden, state.cell, strict=True
        ):
            # `__call__` would cast to the precision of training; a search computes in float32.
            hidden, cell = layer.call(inputs, hidden, cell)
            inputs = hidden * tf.cast(factors, hidden.dtype)
            hiddens.append(hidden)
            cells.append(cell)
        context, alignment = attention(inputs, state.attention_sum)
        state = StackedState(
            tuple(hiddens),
            tuple(cells),
            context,
            state.attention_sum + alignment,
            tf.argmax(alignment, -1, tf.int32),
        )
        return tf.concat([inputs, context], -1), state

    def _logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """Projects outputs [..., H + D] to the vocabulary."""
        return project(outputs, tf.convert_to_tensor(self.output_kernel)) + self.output_bias

    def teacher_forced(
        self,
        token_ids: tf.Tensor,
        encoded: tf.Tensor,
        memory: Any,
        training: bool,
    ) -> tf.Tensor:
        """Maps inputs [N, U] to logits [N, U, V]; samples inputs as scheduled in training."""
        steps = dimensions(token_ids)[1]
        by_step = tf.transpose(token_ids)
        count = dimensions(by_step)[1]
        kept, attention = self._kept(count, training), self.attention.in_training(memory)
        inputs_of = self._sampled_inputs(by_step, count) if self._samples(training) else None

        def body(t, state, outputs, last):
            tokens = by_step[t] if inputs_of is None else inputs_of(t, last)
            of_step, state = self._outputs(tokens, state, attention, kept)
            return t + 1, state, outputs.write(t, of_step), of_step

        width = self.config.units + self.encoded_units
        loop = (
            0,
            self._zero_state(encoded, count),
            tf.TensorArray(encoded.dtype, steps, element_shape=[None, width]),
            tf.zeros([count, width], encoded.dtype),
        )
        _, _, outputs, _ = tf.while_loop(lambda t, *_: t < steps, body, loop, parallel_iterations=1)
        return self._logits(tf.transpose(outputs.stack(), [1, 0, 2]))

    def _samples(self, training: bool) -> bool:
        return training and self.config.teacher_forcing_rate < 1

    def _sampled_inputs(self, by_step: tf.Tensor, count: int | tf.Tensor):
        """Chooses the input of each step: the target's token, or a draw from the last prediction.

        Args:
          by_step: [U, N] int32, the inputs of teacher forcing.
        Returns:
          A function of the step and the last outputs [N, H + D], which gives token ids [N].
        """
        seed = self.seed_generator.next()
        steps = dimensions(by_step)[0]
        is_forced = self.config.teacher_forcing_rate > tf.random.stateless_uniform(
            tf.stack([steps, count]), seed
        )

        def inputs_of(t: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
            logits = tf.cast(self._logits(tf.stop_gradient(last)), tf.float32)
            logits += emission_bias(self.vocab_size)
            # Keras counts calls in the second word: there, the next step of training would draw
            # the same numbers again, one position earlier.
            own_seed = tf.cast(seed, tf.int32) + tf.stack([1 + t, 0])
            drawn = tf.random.stateless_categorical(logits, 1, own_seed, tf.int32)[:, 0]
            # The first step always reads sos.
            return tf.where(is_forced[t] | tf.equal(t, 0), by_step[t], drawn)

        return inputs_of

    def get_config(self) -> dict:
        """Returns the arguments, from which Keras rebuilds the layer."""
        attention = dataclasses.asdict(self.attention.config)
        return {**super().get_config(), "attention": attention}
