"""The interfaces of the three parts of a recogniser: frontend, encoder and decoder.

The recogniser uses these methods alone. To add a family, write a layer with them and a config class
with its own `kind`, name the class in the union of `ModelConfig`, and add one line to the table of
the folder: `frontend/__init__.py`, `encoders/__init__.py` or `decoders/__init__.py`.

Shapes: B utterances, K hypotheses of each, N = B * K; T frames of F features; S encodings of D
units; U tokens; V, the size of the vocabulary.
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
      hop_seconds: seconds from one frame to the next.
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
        """Computes the number of frames [B] of utterances with `num_samples` [B] samples."""

    def features(self, waveform: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        """Computes features [B, T, F] before they are standardised."""

    def adapt(self, batches: Iterable[Mapping[str, tf.Tensor]]) -> None:
        """Computes the feature statistics of a training set, with which features are standardised.

        A frontend that learns may learn from the audio what it is to begin with.

        Args:
          batches: waveform [B, N] float32 and num_samples [B]; some minutes of audio are enough.
        """

    @property
    def weights(self) -> list[keras.Variable]:
        """Its variables, which hold the feature statistics."""

    def set_statistics(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Sets the mean [F] and standard deviation [F] with which features are standardised."""


class EncoderLayer(Protocol):
    """Turns features into a shorter sequence of encodings.

    Attributes:
      output_units: D, known once the layer is built.
      time_reduction: number of frames for each encoding.
    """

    output_units: int
    time_reduction: int

    def build(self, input_shape: Any) -> None:
        """Creates every weight for features of shape (None, None, F)."""

    def __call__(
        self, features: tf.Tensor, lengths: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps features [B, T, F] and lengths [B] to encoded [B, S, D] and its lengths [B].

        Encodings beyond an utterance's length are zero; padding of the features has no effect.
        """


class DecoderLayer(Protocol):
    """Turns encodings and the tokens so far into logits of the next token.

    Teacher forcing (`call`) and the search (`memory`, `initial_state`, `step`) use the same weights
    and give the same logits. The state is a nest of tensors [N, ...] that the search reorders.
    Tensors that the hypotheses of an utterance share are in the memory, which is never copied.
    """

    def build(self, encoded_units: int) -> None:
        """Creates every weight for encodings of D units."""

    def memory(self, encoded: tf.Tensor, encoded_lengths: tf.Tensor) -> Any:
        """Computes what every step reads from encoded [B, S, D] and its lengths [B]."""

    def initial_state(self, encoded: tf.Tensor, max_tokens: int | tf.Tensor) -> Any:
        """Makes the state of one empty hypothesis an utterance, with room for max_tokens steps."""

    def step(self, token_ids: tf.Tensor, state: Any, memory: Any) -> tuple[tf.Tensor, Any]:
        """Maps the last token of each hypothesis [N] int32 to logits [N, V] and the next state."""

    def readout(self, state: Any, encoded_lengths: tf.Tensor) -> Readout:
        """Reads where each hypothesis attended last, and its coverage of encoded_lengths [B]."""

    def __call__(
        self,
        token_ids: tf.Tensor,
        encoded: tf.Tensor,
        encoded_lengths: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor | None:
        """Maps inputs [B, K, U] that begin with sos to logits [B, K, U, V], by teacher forcing.

        The decoder of kind "none", which is CTC alone, returns None.
        """
