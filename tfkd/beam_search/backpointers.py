"""Back-pointers: store the choices of each step, and read the tokens of hypotheses from them.

No sequence is copied from step to step. For every place of the beam, each step stores its token and
which hypothesis of the step before it extends. After the last step, only the sequences that are
returned are read, backwards.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfkd.beam_search.hypotheses import Hypotheses


class Step(NamedTuple):
    """The choices of one step; a place is a number from 0 to W - 1 in the beam of an utterance."""

    parent: tf.Tensor  # [B, W] int32: the place, before the step, of the hypothesis it extends
    token_id: tf.Tensor  # [B, W] int32: the token that was appended
    log_prob: tf.Tensor  # [B, W] float32: of that token, under step_fn alone
    frame: tf.Tensor  # [B, W] int32: `Readout.frame` of the hypothesis that was here before


class Sequences(NamedTuple):
    """The tokens of hypotheses, [B, K, U] each; values beyond their ends are undefined."""

    token_ids: tf.Tensor
    token_log_probs: tf.Tensor
    frames: tf.Tensor


def no_history(shape: tuple[int | tf.Tensor, int], max_tokens: int) -> Step:
    """Makes arrays for max_tokens steps of a beam of shape (B, W)."""
    batch = None if tf.is_tensor(shape[0]) else shape[0]
    kinds = Step(tf.int32, tf.int32, tf.float32, tf.int32)
    return Step(
        *(tf.TensorArray(kind, max_tokens, element_shape=[batch, shape[1]]) for kind in kinds)
    )


def append(history: Step, step: tf.Tensor, noted: Step) -> Step:
    """Writes the choices of one step into the arrays of `history`."""
    return Step(*(array.write(step, value) for array, value in zip(history, noted, strict=True)))


def read_back(history: Step, steps: tf.Tensor, hypotheses: Hypotheses, eos_id: int) -> Sequences:
    """Reads the tokens of hypotheses [B, K] from the back-pointers.

    `Hypotheses.place` is the place of a finished hypothesis before the step that ended it, and that
    of an unfinished one after the last step.

    Args:
      steps: number of steps in `history`.
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
        written = Sequences(
            *(array.write(step, value) for array, value in zip(outputs, values, strict=True))
        )
        return step - 1, before, written

    loop = (steps - 1, hypotheses.place, outputs)
    *_, outputs = tf.while_loop(lambda step, *_: step >= 0, back, loop)
    return Sequences(*(tf.transpose(array.stack(), [1, 2, 0]) for array in outputs))
