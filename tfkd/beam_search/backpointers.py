"""Back-pointers: the choices of each step, and the way back from an end to its tokens.

No sequence is copied from step to step. Each step notes which hypothesis of the step before every
place of the beam continues; at the end, the sequences that are returned are read backwards, once.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfkd.beam_search.hypotheses import Hypotheses


class Step(NamedTuple):
    """The notes of one step; a place is a number from 0 to W - 1 in the beam of an utterance."""

    parent: tf.Tensor  # [B, W] int32: the place, before the step, of the hypothesis it continues
    token_id: tf.Tensor  # [B, W] int32: the token that was appended
    log_prob: tf.Tensor  # [B, W] float32: of that token, by the recogniser alone
    frame: tf.Tensor  # [B, W] int32: where the hypothesis at this place looked before the step


class Sequences(NamedTuple):
    """The tokens of hypotheses, [B, K, U] each; values beyond their ends are undefined."""

    token_ids: tf.Tensor
    token_log_probs: tf.Tensor
    frames: tf.Tensor


def no_history(shape: tuple[int | tf.Tensor, int], max_tokens: int) -> Step:
    """Arrays with room for max_tokens steps of a beam of shape (B, W); they go through the loop."""
    batch = None if tf.is_tensor(shape[0]) else shape[0]
    kinds = Step(tf.int32, tf.int32, tf.float32, tf.int32)
    return Step(
        *(tf.TensorArray(kind, max_tokens, element_shape=[batch, shape[1]]) for kind in kinds)
    )


def append(history: Step, step: tf.Tensor, noted: Step) -> Step:
    """The arrays of `history` with what one step notes."""
    return Step(*(array.write(step, value) for array, value in zip(history, noted)))


def read_back(history: Step, steps: tf.Tensor, hypotheses: Hypotheses, eos_id: int) -> Sequences:
    """The sequences of hypotheses of shape [B, K].

    A finished one stands where it was before the step that ended it, one that was cut off where it
    is after its last.

    Args:
      steps: how many `history` has.
    """
    past = Step(*(array.stack() for array in history))
    last = hypotheses.num_tokens - 1
    outputs = Sequences(
        *(
            tf.TensorArray(kind, past.parent.shape[0], element_shape=last.shape)
            for kind in (tf.int32, tf.float32, tf.int32)
        )
    )

    def back(step: tf.Tensor, place: tf.Tensor, outputs: Sequences):
        def at(values: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
            return tf.gather(values[step], place, batch_dims=1)

        is_end = hypotheses.is_finished & tf.equal(step, last)
        is_past = tf.where(hypotheses.is_finished, step < last, step <= last)
        before = tf.where(is_past, at(past.parent, place), place)
        values = Sequences(
            tf.where(is_end, eos_id, at(past.token_id, place)),
            tf.where(is_end, hypotheses.end_log_prob, at(past.log_prob, place)),
            at(past.frame, before),
        )
        written = Sequences(*(array.write(step, value) for array, value in zip(outputs, values)))
        return step - 1, before, written

    loop = (steps - 1, hypotheses.place, outputs)
    *_, outputs = tf.while_loop(lambda step, *_: step >= 0, back, loop)
    return Sequences(*(tf.transpose(array.stack(), [1, 2, 0]) for array in outputs))
