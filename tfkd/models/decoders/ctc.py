"""Decodes with the CTC head alone, in the same beam search as all other recognisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfkd.beam_search import BeamResult, Readout
from tfkd.layers.static_shape import dimensions
from tfkd.models.decoders.ctc_prefix import (
    LEAST_LOG_PROB,
    CtcState,
    empty_prefix,
    frame_log_probs,
    next_log_probs,
)
from tfkd.text import FIRST_PIECE_ID, PAD_ID, SOS_ID

_NEVER = -1e9


class CtcMemory(NamedTuple):
    """Tensors of an utterance that every step reads."""

    log_probs: tf.Tensor  # [B, S, V]; class 0 (pad) is the blank
    empty: CtcState  # state of the empty prefix, [B, ...]


class CtcDecoder:
    """Decodes by CTC prefix search; it has no weights of its own.

    A step computes log P(prefix and token) - log P(prefix), each summed over all alignments. So the
    log-probability of a finished hypothesis is exactly that of CTC, and the beam search offers k
    best, limits and language models as for other decoders. Special tokens are impossible, so the
    probabilities of a step sum to one.

    Args:
      ctc_logits: maps encoded [B, S, D] to logits [B, S, V] of the CTC head.
    References:
      Graves 2008, "Supervised sequence labelling with recurrent neural networks", algorithm 1 of
      chapter 7 (prefix search decoding); Takashima et al. 2018 (distillation of its k best).
    """

    def __init__(self, ctc_logits: Callable[[tf.Tensor], tf.Tensor]) -> None:
        self._ctc_logits = ctc_logits

    def build(self, encoded_units: int) -> None:
        """Does nothing: there are no weights."""

    def memory(self, encoded: tf.Tensor, encoded_lengths: tf.Tensor) -> CtcMemory:
        """Computes the log-probabilities of each encoding, and the state of the empty prefix."""
        logits = self._ctc_logits(encoded)
        ids = tf.range(logits.shape[-1])
        is_possible = tf.equal(ids, PAD_ID) | (ids >= FIRST_PIECE_ID)
        log_probs = frame_log_probs(logits + tf.where(is_possible, 0.0, _NEVER), encoded_lengths)
        return CtcMemory(log_probs, empty_prefix(log_probs))

    def initial_state(self, encoded: tf.Tensor, max_tokens: int | tf.Tensor) -> CtcState:
        """Makes a placeholder; the first step, which reads sos, replaces it by the empty prefix."""
        batch, frames, _ = dimensions(encoded)
        unknown = tf.zeros([batch, frames + 1])
        start = tf.fill([batch], SOS_ID)
        return CtcState(unknown, unknown, start, tf.zeros([batch], tf.int32))

    def step(
        self, token_ids: tf.Tensor, state: CtcState, memory: CtcMemory
    ) -> tuple[tf.Tensor, CtcState]:
        """Maps token_ids [N] int32 and the state to log-probabilities [N, V] and the next state."""
        batch = dimensions(memory.log_probs)[0]
        is_first = tf.reshape(tf.equal(token_ids, SOS_ID), [batch, -1, 1])

        def started(empty: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
            by_utterance = tf.reshape(values, [batch, -1, dimensions(values)[1]])
            chosen = tf.where(is_first, tf.expand_dims(empty, 1), by_utterance)
            return tf.reshape(chosen, tf.shape(values))

        state = state._replace(
            ends_in_token=started(memory.empty.ends_in_token, state.ends_in_token),
            ends_in_blank=started(memory.empty.ends_in_blank, state.ends_in_blank),
        )
        log_probs, state = next_log_probs(token_ids, state, memory.log_probs)
        # Beside attention, a token that cannot be aligned costs much; here it is impossible.
        return tf.where(log_probs > LEAST_LOG_PROB, log_probs, _NEVER), state

    def readout(self, state: CtcState, encoded_lengths: tf.Tensor) -> Readout:
        """Reads where the last token most likely starts; CTC alignments cover every encoding.

        The search keeps it for the token that follows: see `frames_of_tokens`.
        """
        covered = tf.ones(tf.shape(state.frame))
        return Readout(state.frame, covered, tf.zeros_like(covered))

    def __call__(
        self,
        token_ids: tf.Tensor,
        encoded: tf.Tensor,
        encoded_lengths: tf.Tensor,
        training: bool = False,
    ) -> None:
        """Returns None: the CTC loss takes whole sequences, so there is no teacher forcing."""


def frames_of_tokens(result: BeamResult) -> BeamResult:
    """Moves the frames of a search's result to the tokens that start there.

    A prefix search knows where a token starts one step later, when it has read the token. The end,
    and a last token that was cut off, keep the frame where the token before starts.
    """
    following = tf.pad(result.frames[:, :, 1:], [[0, 0], [0, 0], [0, 1]])
    is_followed = tf.range(dimensions(result.frames)[2]) + 1 < tf.expand_dims(result.num_tokens, 2)
    return result._replace(frames=tf.where(is_followed, following, result.frames))
