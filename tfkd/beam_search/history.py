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


class History:
    """The steps of a search so far; goes through a loop as `arrays`."""

    def __init__(self, arrays: Step) -> None:
        self.arrays = arrays

    @classmethod
    def empty(cls, shape: tuple[int | tf.Tensor, int], max_tokens: int) -> History:
        """Room for max_tokens steps of a beam of shape (B, W)."""
        batch = None if tf.is_tensor(shape[0]) else shape[0]
        kinds = Step(tf.int32, tf.int32, tf.float32, tf.int32)
        return cls(
            Step(
                *(
                    tf.TensorArray(kind, max_tokens, element_shape=[batch, shape[1]])
                    for kind in kinds
                )
            )
        )

    def append(self, step: tf.Tensor, noted: Step) -> History:
        return History(
            Step(*(array.write(step, value) for array, value in zip(self.arrays, noted)))
        )

    def sequences(self, steps: tf.Tensor, hypotheses: Hypotheses, eos_id: int) -> Sequences:
        """Reads hypotheses of shape [B, K] backwards.

        A finished one stands where it was before the step that ended it, one that was cut off where
        it is after its last.

        Args:
          steps: how many there were.
        """
        past = Step(*(array.stack() for array in self.arrays))
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
                *(array.write(step, value) for array, value in zip(outputs, values))
            )
            return step - 1, before, written

        loop = (steps - 1, hypotheses.place, outputs)
        *_, outputs = tf.while_loop(lambda step, *_: step >= 0, back, loop)
        return Sequences(*(tf.transpose(array.stack(), [1, 2, 0]) for array in outputs))
