"""One training step of tfkd's encoder and decoder."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import measuring
import numpy as np
import tensorflow as tf
from sizes import BATCH, FRAMES, MELS, SIZES, SOS_ID, TOKENS, VOCABULARY, Sizes

from tfkd.config import AttentionConfig, DecoderConfig, EncoderConfig
from tfkd.layers.decoders import AttentionDecoder
from tfkd.layers.encoders import Encoder
from tfkd.losses import sequence_cross_entropy


class Speller(keras.Model):
    """The recogniser without its frontend: features in, logits out."""

    def __init__(self, sizes: Sizes, vocabulary: int, attention: AttentionConfig) -> None:
        super().__init__()
        self.encoder = Encoder(
            EncoderConfig("pyramid", 2 ** sum(sizes.joins), layers=len(sizes.joins),
                          units=sizes.units)
        )  # fmt: skip
        self.encoder.build((None, None, MELS))
        decoder = DecoderConfig(units=sizes.decoder_units, embedding_units=sizes.embedding_units)
        self.decoder = AttentionDecoder(decoder, attention, vocabulary)
        self.decoder.build(self.encoder.output_units)
        self.built = True

    def call(self, features: tf.Tensor, previous: tf.Tensor) -> tf.Tensor:
        encoded, lengths = self.encoder(features, tf.fill([tf.shape(features)[0]], FRAMES))
        return self.decoder(previous[:, None], encoded, lengths)


def main() -> None:
    options = measuring.arguments()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    keras.utils.set_random_seed(0)
    sizes = SIZES[options.size]
    model = Speller(sizes, VOCABULARY, AttentionConfig(units=sizes.attention_units))
    optimizer = keras.optimizers.Adam(1e-4, global_clipnorm=5.0)
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    features = tf.constant(rng.normal(size=(BATCH, FRAMES, MELS)), tf.float32)
    token_ids = tf.constant(rng.integers(4, VOCABULARY, (BATCH, TOKENS)), tf.int32)
    previous = tf.concat([tf.fill([BATCH, 1], SOS_ID), token_ids[:, :-1]], 1)

    # Shapes are open, as in `fit`.
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, MELS], tf.float32),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None], tf.int32),
        ],
        autograph=False,
    )
    def step(features, previous, token_ids):
        with tf.GradientTape() as tape:
            logits = model(features, previous)
            weights = tf.ones_like(token_ids[:, :1], tf.float32)
            loss = sequence_cross_entropy(logits, token_ids[:, None], weights)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    measuring.report(lambda: step(features, previous, token_ids).numpy(), options.repeats)


if __name__ == "__main__":
    main()
