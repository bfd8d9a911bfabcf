"""Computes a recogniser's most probable tokens at each step of known hypotheses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from tfkd.errors import ConfigError
from tfkd.models.recogniser import Recogniser
from tfkd.records import Hypothesis
from tfkd.text import PAD_ID

# Records keep log-probs as float16, which would round smaller ones to -inf; e^-100 is nearly zero.
LEAST_LOG_PROB = -100.0


class TopPosteriors:
    """Computes the M most probable tokens at each step of hypotheses, by teacher forcing.

    Args:
      model: the recogniser; its current weights are used at each call.
      top_m: M.
    Raises:
      ConfigError: if M is larger than the vocabulary.
    """

    def __init__(self, model: Recogniser, top_m: int) -> None:
        if top_m > model.vocab_size:
            raise ConfigError(
                f"labels.top_m: {top_m} is above the {model.vocab_size} tokens of the teacher",
                remedy="lower it",
            )
        self._model, self._top_m = model, top_m
        self._top = tf.function(
            self._of_sequences,
            input_signature=[
                tf.TensorSpec([None, None], tf.float32),
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None, None, None], tf.int32),
            ],
            autograph=False,
        )

    def add_to(
        self,
        waveform: tf.Tensor,
        num_samples: tf.Tensor,
        hypotheses: Sequence[tuple[Hypothesis, ...]],
    ) -> list[tuple[Hypothesis, ...]]:
        """Adds `top_token_ids` and `top_log_probs` to the hypotheses of a batch.

        Args:
          waveform: [B, N] float32.
          num_samples: [B] int32.
          hypotheses: of each utterance, with token_ids.
        Returns:
          The same hypotheses with the posteriors.
        """
        sequences = _padded([[each.token_ids for each in own] for own in hypotheses])
        if not sequences.size:
            return list(hypotheses)
        top = self._top(waveform, num_samples, sequences)
        token_ids, log_probs = (values.numpy() for values in top)
        return [
            tuple(
                replace(
                    each,
                    top_token_ids=_rows(token_ids[row, rank, : each.num_tokens]),
                    top_log_probs=_rows(log_probs[row, rank, : each.num_tokens]),
                )
                for rank, each in enumerate(own)
            )
            for row, own in enumerate(hypotheses)
        ]

    def _of_sequences(
        self, waveform: tf.Tensor, num_samples: tf.Tensor, token_ids: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        batch = {"waveform": waveform, "num_samples": num_samples, "token_ids": token_ids}
        log_probs = tf.nn.log_softmax(self._model(batch).logits)
        top = tf.math.top_k(log_probs, self._top_m)
        # Rounding may make the log-probability of a certain token positive.
        kept = tf.clip_by_value(top.values, LEAST_LOG_PROB, 0.0)
        return top.indices, tf.cast(kept, tf.float16)


def _padded(sequences: Sequence[Sequence[Sequence[int]]]) -> np.ndarray:
    """Pads sequences of B utterances and K hypotheses to [B, K, U] int32."""
    most = max((len(own) for own in sequences), default=0)
    longest = max((len(ids) for own in sequences for ids in own), default=0)
    padded = np.full((len(sequences), most, longest), PAD_ID, np.int32)
    for row, own in enumerate(sequences):
        for rank, ids in enumerate(own):
            padded[row, rank, : len(ids)] = ids
    return padded


def _rows(values: np.ndarray) -> tuple[tuple, ...]:
    return tuple(map(tuple, values.tolist()))
