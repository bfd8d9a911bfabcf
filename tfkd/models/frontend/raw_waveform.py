"""Waveform to features by convolutions that are learned with the rest of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

from tfkd.config import FrontendConfig, RawWaveformConfig
from tfkd.models.frontend.log_mel import MAX_UNQUANTISED_ELEMENTS, LogMel
from tfkd.models.frontend.standardised import StandardisedFrontend

# Added to what filters give; below lies what 16 bits cannot tell from silence.
_FLOOR = 1e-4
# About the mean and the deviation of those logarithms in speech, by which they are standardised.
_LEVEL, _DEVIATION = -5.0, 2.5
# A hop of the features is so many steps of the filters, the first of these that divides it.
_STEPS_A_HOP = (4, 5, 3, 2, 1)
_LEARNING_RATE = 2e-3


@keras.saving.register_keras_serializable("tfkd")
class RawWaveform(StandardisedFrontend):
    """Filters over the waveform, the logarithm of what they give, and two layers over that.

    The filters begin as a filterbank, windowed cosines that are evenly spaced on the mel scale, and
    `adapt` trains all layers to predict log-mel features ("feature transfer"). From then on they
    are learned end to end.

    References:
      Tjandra et al. 2017, "Attention-based Wav2Text with feature transfer learning",
      arXiv:1709.07814, section 3; Sainath et al. 2015, "Learning the speech front-end with raw
      waveform CLDNNs", section 2.1 (the logarithm after the first layer).
    """

    config_class = RawWaveformConfig

    def __init__(self, config: RawWaveformConfig | dict, **kwargs) -> None:
        super().__init__(config, **kwargs)
        self.num_features = self.config.num_features
        steps = next(n for n in _STEPS_A_HOP if self.hop_samples % n == 0)
        self.stride, self.steps = self.hop_samples // steps, steps
        self.filter_samples = round(self.config.sample_rate_hz * self.config.filter_ms / 1000)
        # A frame sees as many steps as lie in its window, as a frame of log-mel does.
        self.width = (self.window_samples - self.filter_samples) // self.stride + 1

    def build(self, input_shape=None) -> None:
        """Creates every weight; no data is needed."""
        super().build(input_shape)
        filters, units = self.config.filters, self.config.units
        self.filter_kernel = self.add_weight(
            name="filter_kernel",
            shape=(self.filter_samples, filters),
            initializer=lambda shape, dtype=None: tf.cast(self._filterbank(), dtype or tf.float32),
        )
        self.window_kernel = self.add_weight(
            name="window_kernel", shape=(self.width, filters, units)
        )
        self.window_bias = self.add_weight(name="window_bias", shape=(units,), initializer="zeros")
        self.output_kernel = self.add_weight(name="output_kernel", shape=(units, self.num_features))
        self.output_bias = self.add_weight(
            name="output_bias", shape=(self.num_features,), initializer="zeros"
        )

    def _filterbank(self) -> np.ndarray:
        """Cosines [filter_samples, filters] under a Hann window, evenly spaced on the mel scale."""
        rate_hz, length = self.config.sample_rate_hz, self.filter_samples
        highest_mel = 2595.0 * np.log10(1.0 + rate_hz / 2 / 700.0)
        mels = np.linspace(0.0, highest_mel, self.config.filters + 2)[1:-1]
        centres_hz = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
        seconds = (np.arange(length) - (length - 1) / 2) / rate_hz
        hann = np.hanning(length + 2)[1:-1, None]
        waves = np.cos(2 * np.pi * seconds[:, None] * centres_hz) * hann
        return waves / np.linalg.norm(waves, axis=0)

    def features(self, waveform: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        """Features [B, T, F] of waveform [B, N] before they are standardised."""
        # Pad by a window, so that the shortest waveform has a frame. The padding is a constant,
        # because TFLite loses the shape behind a computed one.
        waveform = tf.pad(waveform, [[0, 0], [0, self.window_samples]])
        filtered = self._filtered(tf.expand_dims(waveform, -1))
        levels = (tf.math.log(tf.abs(filtered) + _FLOOR) - _LEVEL) / _DEVIATION
        window_kernel = tf.convert_to_tensor(self.window_kernel)
        hidden = tf.nn.conv1d(levels, window_kernel, self.steps, "VALID") + self.window_bias
        output_kernel = tf.expand_dims(tf.convert_to_tensor(self.output_kernel), 0)
        return tf.nn.conv1d(tf.nn.relu(hidden), output_kernel, 1, "VALID") + self.output_bias

    def _filtered(self, waveform: tf.Tensor) -> tf.Tensor:
        """What the filters give, [B, P, filters], of waveform [B, N, 1].

        TFLite's quantiser would round the samples to 8 bits, too, and so drown what is quiet: on a
        device the filters come in groups so small that it leaves them alone.
        """
        kernels = [tf.expand_dims(tf.convert_to_tensor(self.filter_kernel), 1)]
        if waveform.shape[0] == 1:
            each = max(1, (MAX_UNQUANTISED_ELEMENTS - 1) // self.filter_samples)
            count = self.config.filters
            sizes = [min(each, count - start) for start in range(0, count, each)]
            kernels = tf.split(kernels[0], sizes, -1)
        parts = [tf.nn.conv1d(waveform, kernel, self.stride, "VALID") for kernel in kernels]
        return tf.concat(parts, -1)

    def adapt(self, batches: Iterable[Mapping[str, tf.Tensor]]) -> None:
        """Learns to predict the standardised log-mel features of a training set.

        With `transfer_epochs: 0` it does nothing: the layers then learn end to end alone.

        Args:
          batches: waveform [B, N] float32 and num_samples [B], as `tfkd.batches` gives them. They
            are gone through once for the statistics of log-mel, and once an epoch.

        >>> frontend = RawWaveform({"filters": 8, "units": 8, "num_features": 8})
        >>> noise = np.random.default_rng(0).normal(size=(2, 4000)).astype("float32")
        >>> frontend.build()
        >>> frontend.adapt([{"waveform": noise, "num_samples": np.array([4000, 3000])}])
        """
        if not self.config.transfer_epochs:
            return
        if isinstance(batches, Iterator):
            batches = list(batches)
        log_mel = LogMel(self._log_mel_config())
        log_mel.build()
        log_mel.adapt(batches)
        # Train a copy: the variables themselves may be spread over the replicas of a strategy.
        learner = RawWaveform(self.config)
        learner.build()
        learner.set_weights(self.get_weights())
        step = _step_towards(learner, log_mel)
        for _ in range(self.config.transfer_epochs):
            for batch in batches:
                step(batch["waveform"], tf.cast(batch["num_samples"], tf.int32))
        self.set_weights(learner.get_weights())

    def _log_mel_config(self) -> FrontendConfig:
        """Log-mel features with the frames of these."""
        return FrontendConfig(
            sample_rate_hz=self.config.sample_rate_hz,
            num_mels=self.num_features,
            window_ms=self.config.window_ms,
            hop_ms=self.config.hop_ms,
            min_hz=0.0,
            max_hz=self.config.sample_rate_hz / 2,
        )


def _step_towards(own: RawWaveform, other: LogMel) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns a function that does one training step towards the features of another frontend.

    It takes waveform [B, N] and num_samples [B], and returns the mean squared difference of the
    features, which it reduces.
    """
    optimizer = keras.optimizers.Adam(_LEARNING_RATE)
    optimizer.build(own.trainable_variables)

    @tf.function(
        input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([None], tf.int32)],
        autograph=False,
    )
    def step(waveform: tf.Tensor, num_samples: tf.Tensor) -> tf.Tensor:
        expected, num_frames = other(waveform, num_samples)
        longest = tf.reduce_max(num_frames)
        count = tf.cast(tf.maximum(1, tf.reduce_sum(num_frames)), tf.float32)
        with tf.GradientTape() as tape:
            found, _ = own(waveform, num_samples)
            # Beyond its end an utterance is zero in both.
            squares = tf.square(found[:, :longest] - expected[:, :longest])
            loss = tf.reduce_sum(squares) / (count * own.num_features)
        weights = own.trainable_variables
        optimizer.apply(tape.gradient(loss, [w.value for w in weights]), weights)
        return loss

    return step
