"""How hypotheses came to be: what each step chose, and the way back from an end to the start.

Nothing is copied from step to step, whatever the length: a step notes which hypothesis each of the
beam continues, and sequences are read backwards once, of those that are returned.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfkd.beam_search.hypotheses import Hypotheses


class Step(NamedTuple):
    """What one step notes; a place is a number from 0 to W - 1 in the beam of an utterance."""

    parent: tf.Tensor  # [B, W] int32: the place before the step of what is at a place after it
    token_id: tf.Tensor  # [B, W] int32: the token that was appended
    log_prob: tf.Tensor  # [B, W] float32: of that token, by the recogniser alone
    frame: tf.Tensor  # [B, W] int32: where what was at a place before the step looked


class Sequences(NamedTuple):
    """The tokens of hypotheses, [B, K, U] each; whatever is beyond their ends is not defined."""

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
