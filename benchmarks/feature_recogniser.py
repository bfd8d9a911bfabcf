"""tfkd's recogniser without its frontend: features in, logits out."""

from __future__ import annotations

import keras
import tensorflow as tf
from sizes import MELS, Sizes

from tfkd.config import AttentionConfig, DecoderConfig, EncoderConfig
from tfkd.models.decoders.attention_rnn import AttentionDecoder
from tfkd.models.encoders.recurrent import Encoder


class FeatureRecogniser(keras.Model):
    def __init__(
        self,
        sizes: Sizes,
        vocabulary: int,
        attention: str = "additive",
        precision: str = "float32",
    ) -> None:
        super().__init__()
        encoder = EncoderConfig(
            reduction="pyramid", time_reduction=8, layers=len(sizes.joins), units=sizes.units
        )
        self.encoder = Encoder(encoder, dtype=precision)
        self.encoder.build((None, None, MELS))
        self.decoder = AttentionDecoder(
            DecoderConfig(units=sizes.decoder_units, embedding_units=sizes.embedding_units),
            AttentionConfig(attention, sizes.attention_units, 10, 201),
            vocabulary,
            dtype=precision,
        )
        self.decoder.build(self.encoder.output_units)
        self.built = True

    def encode(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.encoder(features, tf.fill(tf.shape(features)[:1], tf.shape(features)[1]))

    def call(self, features: tf.Tensor, previous: tf.Tensor) -> tf.Tensor:
        return self.decoder(previous[:, None], *self.encode(features))
