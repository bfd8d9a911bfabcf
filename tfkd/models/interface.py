"""The three interfaces that a recogniser is put together from.

A recogniser asks no more of its parts than what stands here. So another family is a layer with
these methods, a config class with its own `kind`, and one line in the table of its folder:
`frontend/__init__.py`, `encoders/__init__.py` or `decoders/__init__.py`.

Shapes: B utterances, K hypotheses of each, N = B * K; T frames of F features, S encodings of D
units; U tokens, V sizes of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from tfkd.beam_search import Readout


class FrontendLayer(Protocol):
    """Turns a waveform into features.

    Attributes:
      num_features: F.
      hop_seconds: time from one frame to the next.
    """

    num_features: int
    hop_seconds: float

    def build(self, input_shape: Any = None) -> None:
        """Creates every weight."""

    def __call__(self, waveform: tf.Tensor, num_samples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps waveform [B, N] in [-1, 1] and num_samples [B] to features and num_frames.

        Returns:
          features [B, T, F], zero beyond each utterance's end, and num_frames [B] int32.
        """

    def num_frames(self, num_samples: tf.Tensor) -> tf.Tensor:
        """Frames of utterances of `num_samples` [B] samples."""

    def features(self, waveform: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        """Features [B, T, F] before they are standardised."""

    def adapt(self, batches: Iterable[Mapping[str, tf.Tensor]]) -> None:
        """Measures the statistics of a training set, and standardises by them from now on.

        Args:
          batches: waveform [B, N] float32 and num_samples [B]; some minutes of audio are enough.
        """

    @property
    def weights(self) -> list[keras.Variable]:
        """Its variables: the statistics, for all that it learns."""

    def set_statistics(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Standardises by statistics [F] that were measured before."""


class EncoderLayer(Protocol):
    """Turns features into a shorter sequence of encodings.

    Attributes:
      output_units: D, known once the layer is built.
      time_reduction: frames of features for each encoding.
    """

    output_units: int
    time_reduction: int

    def build(self, input_shape: Any) -> None:
        """Creates every weight for features of shape (None, None, F)."""

    def __call__(
        self, features: tf.Tensor, lengths: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps features [B, T, F] and lengths [B] to encoded [B, S, D] and its lengths [B].

        What lies beyond an utterance's length is zero, and changes nothing within it.
        """


class DecoderLayer(Protocol):
    """Turns encodings and the tokens so far into logits of the next token.

    The same weights serve teacher forcing (`call`) and the search (`memory`, `initial_state`,
    `step`), with the same logits. A state is a nest of tensors [N, ...] which the search reorders;
    whatever the hypotheses of an utterance share is in the memory and is never copied for them.
    """

    def build(self, encoded_units: int) -> None:
        """Creates every weight for encodings of D units."""

    def memory(self, encoded: tf.Tensor, encoded_lengths: tf.Tensor) -> Any:
        """What every step reads and none changes, of encoded [B, S, D] and its lengths [B]."""

    def initial_state(self, encoded: tf.Tensor, max_tokens: int | tf.Tensor) -> Any:
        """The state of one empty hypothesis an utterance, with room for max_tokens steps."""

    def step(self, token_ids: tf.Tensor, state: Any, memory: Any) -> tuple[tf.Tensor, Any]:
        """Maps the last token of each hypothesis [N] int32 to logits [N, V] and the next state."""

    def readout(self, state: Any, encoded_lengths: tf.Tensor) -> Readout:
        """Where each hypothesis looked last, and how much of encoded_lengths [B] it has covered."""

    def __call__(
        self,
        token_ids: tf.Tensor,
        encoded: tf.Tensor,
        encoded_lengths: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor | None:
        """Teacher forcing: maps inputs [B, K, U] that begin with sos to logits [B, K, U, V].

        None from a decoder that is not trained so, being CTC alone.
        """
