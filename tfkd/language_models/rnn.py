"""A recurrent language model over the tokenizer's units."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import keras
import tensorflow as tf

from tfkd.beam_search import Scorer
from tfkd.config import RecurrentConfig, from_dict, to_dict
from tfkd.errors import LanguageModelError
from tfkd.layers.cells import state_units
from tfkd.layers.emission import emission_bias
from tfkd.layers.low_rank import as_tensors, merged
from tfkd.layers.matmul import widened
from tfkd.layers.model_size import check_loadable
from tfkd.layers.recurrent import Order, gru_scan, lstm_scan
from tfkd.layers.recurrent_cell import RecurrentCell
from tfkd.storage.keras_files import MODEL, read_model
from tfkd.storage.markers import warn_of_unfinished
from tfkd.text import Tokenizer, load_tokenizer


class LayerState(NamedTuple):
    """The state of one layer between steps."""

    hidden: tf.Tensor  # [N, H]
    cell: tf.Tensor  # [N, H]; [N, 0] for a GRU


@keras.saving.register_keras_serializable("tfkd")
class ForwardRNN(RecurrentCell):
    """A unidirectional LSTM or GRU layer, over whole sequences or step by step."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps inputs [B, U, F] to hidden states [B, U, H], from a zero state."""
        weights = [self.kernel, self.bias, self.recurrent_kernel]
        if self.cell == "gru":
            weights.append(self.recurrent_bias)
        scan = lstm_scan if self.cell == "lstm" else gru_scan
        widths = [widened(merged(as_tensors(weight))) for weight in weights]
        return scan(inputs, *widths, *Order.forward(inputs))


@keras.saving.register_keras_serializable("tfkd")
class RecurrentLanguageModel(keras.Model):
    """A language model of an embedding, recurrent layers, and a projection to the vocabulary."""

    def __init__(self, config: RecurrentConfig | dict, vocab_size: int, **kwargs) -> None:
        # Said of each layer, because Keras' global policy may be another.
        dtype = "float32"
        super().__init__(**{**kwargs, "dtype": dtype})
        self.config = from_dict(RecurrentConfig, config) if isinstance(config, dict) else config
        self.vocab_size = vocab_size
        self.embedding = keras.layers.Embedding(
            vocab_size, self.config.embedding_units, dtype=dtype
        )
        self.recurrent = [
            ForwardRNN(self.config.cell, self.config.units, name=f"recurrent_{number}", dtype=dtype)
            for number in range(self.config.layers)
        ]
        self.dropout = keras.layers.Dropout(self.config.dropout, dtype=dtype)
        self.output_layer = keras.layers.Dense(vocab_size, name="output", dtype=dtype)
        if not getattr(self, "built", False):
            self.build()

    def build(self, input_shape=None) -> None:
        """Creates every weight: sizes follow from the config, so no data is needed."""
        self.embedding.build((None,))
        width = self.config.embedding_units
        for layer in self.recurrent:
            layer.build((None, None, width))
            width = self.config.units
        self.output_layer.build((None, None, width))
        self.built = True

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns log-probs [B, U, V] of the token after each of token_ids [B, U], sos first."""
        outputs = self.dropout(self.embedding(token_ids), training=training)
        for layer in self.recurrent:
            outputs = self.dropout(layer(outputs), training=training)
        return self._log_probs(outputs)

    def step(
        self, token_ids: tf.Tensor, state: tuple[LayerState, ...]
    ) -> tuple[tf.Tensor, tuple[LayerState, ...]]:
        """Reads token_ids [N] int32; returns log_probs [N, V] of the next and the new state."""
        outputs = self.embedding(token_ids)
        states = []
        for layer, before in zip(self.recurrent, state, strict=True):
            states.append(LayerState(*layer.step(outputs, *before)))
            outputs = states[-1].hidden
        return self._log_probs(outputs), tuple(states)

    def scorer(self, weight: float | tf.Tensor, batch_size: int | tf.Tensor) -> Scorer:
        """Returns the scorer for a beam search over `batch_size` utterances."""
        units = self.config.units
        beside = state_units(self.config.cell, units)
        start = LayerState(tf.zeros([batch_size, units]), tf.zeros([batch_size, beside]))
        return Scorer(weight, tuple(start for _ in self.recurrent), self.step)

    def _log_probs(self, outputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.log_softmax(self.output_layer(outputs) + emission_bias(self.vocab_size))

    @classmethod
    def from_config(
        cls, config: dict, custom_objects: dict | None = None
    ) -> RecurrentLanguageModel:
        """Builds the model of a saved file; ConfigError if this machine cannot hold its weights."""
        check_loadable(lambda: cls(**config))
        return cls(**config)

    def get_config(self) -> dict:
        return {"config": to_dict(self.config), "vocab_size": self.vocab_size, "name": self.name}


def load_recurrent_model(directory: str | Path, tokenizer: Tokenizer) -> RecurrentLanguageModel:
    """Reads a folder that `tfkd train-lm` wrote; a warning names one whose training has not ended.

    Raises:
      LanguageModelError: if its units are not those of `tokenizer`.
      CheckpointError: if a file in it is missing or damaged.
    """
    directory = Path(directory)
    warn_of_unfinished(directory)
    own = load_tokenizer(directory)
    if (own.kind, own.pieces) != (tokenizer.kind, tokenizer.pieces):
        raise LanguageModelError(
            "its tokenizer is not the recogniser's",
            path=directory,
            remedy="train it with --run and the folder of this recogniser",
        )
    return read_model(directory / MODEL, RecurrentLanguageModel)
