"""Computes the mean and standard deviation of a training set's features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from tfkd.models.interface import FrontendLayer


def feature_statistics(
    frontend: FrontendLayer, batches: Iterable[Mapping[str, tf.Tensor]]
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the mean [F] and standard deviation [F] of features before they are standardised.

    Args:
      frontend: computes the features.
      batches: waveform [B, N] float32 and num_samples [B] int32.
    Raises:
      ValueError: if the batches hold no frame.
    """
    count = 0
    total, squares = np.zeros(frontend.num_features), np.zeros(frontend.num_features)
    for batch in batches:
        num_frames = frontend.num_frames(batch["num_samples"])
        features = frontend.features(batch["waveform"], num_frames)
        inside = tf.boolean_mask(features, tf.sequence_mask(num_frames, tf.shape(features)[1]))
        values = inside.numpy().astype(np.float64)
        count += len(values)
        total += values.sum(0)
        squares += np.square(values).sum(0)
    if not count:
        raise ValueError("the batches hold no frame of audio to compute feature statistics from")
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - np.square(mean), 0))
