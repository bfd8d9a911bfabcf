"""One training step of the same recogniser in plain Keras: its LSTM layers, and autodiff."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
import timed_process
from sizes import MELS, SIZES, VOCABULARY, Sizes
from training_tfkd import ADAM, measure_steps


def join_pairs(frames: tf.Tensor) -> tf.Tensor:
    steps = tf.shape(frames)[1] // 2
    joined = tf.reshape(frames[:, : 2 * steps], [tf.shape(frames)[0], steps, -1])
    return tf.ensure_shape(joined, [None, None, 2 * frames.shape[-1]])


class KerasRecogniser(keras.Model):
    def __init__(self, sizes: Sizes, vocabulary: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.layers_ = [
            keras.layers.Bidirectional(keras.layers.LSTM(sizes.units, return_sequences=True))
            for _ in sizes.joins
        ]
        self.norms = [keras.layers.LayerNormalization() for _ in sizes.joins]
        self.embedding = keras.layers.Embedding(vocabulary, sizes.embedding_units)
        self.cell = keras.layers.LSTMCell(sizes.decoder_units)
        self.keys = keras.layers.Dense(sizes.attention_units)
        self.query = keras.layers.Dense(sizes.attention_units, use_bias=False)
        self.energy = keras.layers.Dense(1, use_bias=False)
        self.output_layer = keras.layers.Dense(vocabulary)

    def call(self, features: tf.Tensor, previous: tf.Tensor) -> tf.Tensor:
        for joins, layer, norm in zip(self.sizes.joins, self.layers_, self.norms, strict=True):
            for _ in range(joins):
                features = join_pairs(features)
            features = norm(layer(features))
        keys, embedded = self.keys(features), self.embedding(previous)
        hidden = cell = tf.zeros([tf.shape(features)[0], self.sizes.decoder_units])
        steps = tf.shape(previous)[1]
        width = self.sizes.decoder_units + features.shape[-1]
        outputs = tf.TensorArray(tf.float32, steps, element_shape=[None, width])

        def body(t, hidden, cell, context, outputs):
            inputs = tf.concat([embedded[:, t], context], -1)
            _, (hidden, cell) = self.cell(inputs, [hidden, cell])
            energies = self.energy(tf.tanh(keys + self.query(hidden)[:, None]))
            alignment = tf.nn.softmax(energies, 1)
            context = tf.reduce_sum(alignment * features, 1)
            outputs = outputs.write(t, tf.concat([hidden, context], -1))
            return t + 1, hidden, cell, context, outputs

        loop = (0, hidden, cell, tf.zeros_like(features[:, 0]), outputs)
        *_, outputs = tf.while_loop(lambda t, *_: t < steps, body, loop)
        return self.output_layer(tf.transpose(outputs.stack(), [1, 0, 2]))[:, None]


def main() -> None:
    options, base_mb = timed_process.arguments(), timed_process.resident_mb()
    timed_process.limit_threads(options.threads)
    keras.utils.set_random_seed(0)
    model = KerasRecogniser(SIZES[options.size], VOCABULARY)
    model(tf.zeros([1, 16, MELS]), tf.zeros([1, 2], tf.int32))
    measure_steps(model, keras.optimizers.Adam(**ADAM), options.repeats, base_mb)


if __name__ == "__main__":
    main()
