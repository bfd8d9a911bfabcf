"""Whisper: frontend, encoder and decoder as one Keras model."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

from tfkd.models.frontend.whisper_mel import WhisperMel
from tfkd.models.whisper.decoder import WhisperDecoder
from tfkd.models.whisper.encoder import WhisperEncoder
from tfkd.models.whisper.sizes import WhisperSizes


@keras.saving.register_keras_serializable("tfkd")
class Whisper(keras.Model):
    """An attention encoder-decoder from 30 s of waveform to logits of tokens.

    `tfkd.models.whisper.folder.load_whisper` makes one and fills it with the weights of a folder.

    Args:
      sizes: shapes of the weights, which are zero until they are filled.

    References:
      Radford et al. 2022, "Robust speech recognition via large-scale weak supervision",
      arXiv:2212.04356, section 2.2.
    """

    def __init__(self, sizes: WhisperSizes | dict, **kwargs) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.sizes = WhisperSizes(**sizes) if isinstance(sizes, dict) else sizes
        self.frontend = WhisperMel(self.sizes.num_mels, name="frontend", dtype="float32")
        self.encoder = WhisperEncoder(self.sizes, name="encoder")
        self.decoder = WhisperDecoder(self.sizes, name="decoder")
        self.build()

    def build(self, input_shape=None) -> None:
        """Creates every weight: shapes follow from the sizes, so no data is needed."""
        self.encoder.build()
        self.decoder.build()
        self.built = True

    def encode(self, waveform: tf.Tensor) -> tf.Tensor:
        """Maps waveform [B, N] float32, at most 30 s and zero beyond its end, to [B, S, F]."""
        return self.encoder(self.frontend(waveform))

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Computes logits by teacher forcing.

        Args:
          inputs: waveform [B, N] and token_ids [B, U] int32, which begin with the prompt.
        Returns:
          Logits [B, U, V] of the token after each; nothing is suppressed.
        """
        encoded = self.encode(inputs["waveform"])
        return self.decoder(inputs["token_ids"], self.decoder.across(encoded))

    def get_config(self) -> dict:
        return {"sizes": dataclasses.asdict(self.sizes), "name": self.name}
