"""Statistics of a training set's features, which every frontend measures alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from tfkd.models.interface import FrontendLayer


def feature_statistics(
    frontend: FrontendLayer, batches: Iterable[Mapping[str, tf.Tensor]]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [F] of features before they are standardised.

    Args:
      batches: waveform [B, N] float32 and num_samples [B].
    Raises:
      ValueError: if there is no frame in them.
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
        raise ValueError("there is no audio to measure features on")
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - np.square(mean), 0))
