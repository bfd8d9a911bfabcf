"""The arguments and the result of a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

StepFn = Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]]


class Scorer(NamedTuple):
    """A model whose weighted log-probabilities are added to the ranking (shallow fusion)."""

    weight: float | tf.Tensor  # not negative
    initial_state: Any  # nest of [B, ...]
    step_fn: StepFn  # (token_ids [N] int32, state) -> (log_probs [N, V] float32, <= 0, state)


class Readout(NamedTuple):
    """Values that the caller computes from the state of each hypothesis [N] after a step."""

    frame: tf.Tensor  # [N] int32, kept for each token: the encoding with the most attention
    coverage: tf.Tensor  # [N] float32, kept when a hypothesis ends
    log_coverage: tf.Tensor | None = None  # [N] <= 0, which the coverage penalty is multiplied by


class BeamResult(NamedTuple):
    """The k best hypotheses of each utterance, best first.

    B utterances, K hypotheses, U tokens. A place without a hypothesis has num_tokens 0 and a
    log_prob, total and score of -1e30.
    """

    token_ids: tf.Tensor  # [B, K, U] int32, eos included, padded with pad_id
    num_tokens: tf.Tensor  # [B, K] int32, eos included
    log_prob: tf.Tensor  # [B, K] sum of token_log_probs: natural log, step_fn alone, eos included
    total: tf.Tensor  # [B, K] sum of what ranks unfinished hypotheses: with all scorers
    score: tf.Tensor  # [B, K] the value that ranks, with all scorers and controls
    token_log_probs: tf.Tensor  # [B, K, U] of step_fn alone, zero beyond the end
    is_finished: tf.Tensor  # [B, K] bool: whether it ended with eos, not at the length limit
    frames: tf.Tensor  # [B, K, U] int32, `Readout.frame` of each token; zero without a readout
    coverage: tf.Tensor  # [B, K] `Readout.coverage` of the final state; zero without a readout
