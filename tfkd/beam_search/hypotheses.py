"""Sets of hypotheses: alive ones are extended, finished ones are ranked and never change.

Whatever is gathered for a hypothesis (ids, log-probabilities, state) is gathered with the same
indices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class Hypotheses(NamedTuple):
    """A ranked set of hypotheses of each utterance; the second axis is the rank."""

    score: tf.Tensor
    total: tf.Tensor
    num_tokens: tf.Tensor
    is_finished: tf.Tensor
    coverage: tf.Tensor
    place: tf.Tensor  # in the beam: before the step that ended it, or after the last
    end_log_prob: tf.Tensor  # of its end; meaningless where it was cut off


class Alive(NamedTuple):
    """Hypotheses that may go on, in lexicographic order of their token ids."""

    total: tf.Tensor  # [B, W] the sum of what each token added to the ranking
    token_ids: tf.Tensor  # [B, W, U] if a constraint reads them, else [B, W, 0]
    last: tf.Tensor  # [B, W] the token to feed next
    states: tuple[Any, ...]  # of the model, then of each scorer; see `of_each_hypothesis`


def write_column(values: tf.Tensor, step: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """Sets values[:, :, step] to column [B, W]; a select converts to TFLite, a scatter is slow."""
    here = tf.equal(tf.range(values.shape[-1]), step)
    return tf.where(here, tf.expand_dims(column, -1), values)


def of_each_hypothesis(change: Callable[..., tf.Tensor], *states: Any) -> Any:
    """Applies `change` to the tensors of nests of one structure; all are [B * W, ...].

    A tf.TensorArray among them belongs to all hypotheses together, as a model's cache may: that of
    the first nest is kept as it is.
    """
    return tf.nest.map_structure(
        lambda *values: values[0] if isinstance(values[0], tf.TensorArray) else change(*values),
        *states,
    )


def choose_continuations(totals: tf.Tensor, eos_id: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Ranks all continuations of totals [B, W, V].

    Returns:
      The W best that go on, as indices into [W * V] in rising order [B, W]; and for each
      hypothesis whether its end is among the W best of all [B, W].
    """
    width, vocabulary = totals.shape[1], totals.shape[2]
    # At most W of the 2 W best can be ends, so W of them go on.
    best = tf.math.top_k(tf.reshape(totals, [-1, width * vocabulary]), 2 * width).indices
    rank = tf.range(2 * width)
    rank_going_on = tf.where(tf.equal(best % vocabulary, eos_id), rank + 2 * width, rank)
    going_on = tf.gather(best, tf.sort(rank_going_on, axis=1)[:, :width], batch_dims=1)
    ends = tf.range(width) * vocabulary + eos_id
    is_ending = tf.reduce_any(tf.equal(best[:, :width, None], ends), 1)
    # Hypotheses are in lexicographic order, so an index into [W * V] is a lexicographic rank:
    # top_k has broken ties by it, and rising indices keep the order.
    return tf.sort(going_on, axis=1), is_ending


def extend(
    alive: Alive, totals: tf.Tensor, going_on: tf.Tensor, step: tf.Tensor
) -> tuple[Alive, tf.Tensor]:
    """The continuations whose indices into [W * V] are `going_on` [B, W], and their parents."""
    width, vocabulary = totals.shape[1], totals.shape[2]
    parent, token = going_on // vocabulary, going_on % vocabulary
    first = tf.expand_dims(tf.range(tf.shape(totals)[0]) * width, 1)
    parent_row = tf.reshape(parent + first, [-1])
    token_ids = alive.token_ids
    if token_ids.shape[-1]:
        token_ids = write_column(tf.gather(token_ids, parent, batch_dims=1), step, token)
    extended = Alive(
        total=gather_continuations(totals, going_on),
        token_ids=token_ids,
        last=token,
        states=of_each_hypothesis(lambda x: tf.gather(x, parent_row), alive.states),
    )
    return extended, parent


def gather_continuations(values: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """The values [B, W, V] whose indices into [W * V] are `indices` [B, W]."""
    flat = tf.reshape(values, [-1, values.shape[1] * values.shape[2]])
    return tf.gather(flat, indices, batch_dims=1)


def keep_held(is_held: tf.Tensor, before: Alive, after: Alive) -> Alive:
    """The hypotheses before a step for the utterances of is_held [B], and after it for others."""
    width = before.total.shape[1]
    by_row = tf.reshape(tf.tile(tf.expand_dims(is_held, 1), [1, width]), [-1])

    def select(flags: tf.Tensor, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        selected = tf.where(tf.reshape(flags, [-1] + [1] * (old.shape.rank - 1)), old, new)
        selected.set_shape(old.shape)
        return selected

    states = of_each_hypothesis(
        lambda new, old: select(by_row, old, new), after.states, before.states
    )
    others = before._replace(states=()), after._replace(states=())
    held = tf.nest.map_structure(lambda old, new: select(is_held, old, new), *others)
    return held._replace(states=states)


def concat(first: Hypotheses, second: Hypotheses) -> Hypotheses:
    return Hypotheses(*(tf.concat(pair, 1) for pair in zip(first, second)))


def best(hypotheses: Hypotheses, count: int) -> Hypotheses:
    """The `count` best; top_k keeps the order of the input where scores are equal."""
    chosen = tf.math.top_k(hypotheses.score, count).indices
    return Hypotheses(*(tf.gather(x, chosen, batch_dims=1) for x in hypotheses))


def fill_with_cut_off(finished: Hypotheses, cut_off: Hypotheses, count: int) -> Hypotheses:
    """Gives the places that no finished hypothesis takes to those that were cut off."""
    taken = tf.reduce_sum(tf.cast(finished.is_finished, tf.int32), 1, keepdims=True)
    place = tf.expand_dims(tf.range(count), 0)
    source = tf.where(place < taken, place, count + place - taken)
    both = concat(finished, cut_off)
    return Hypotheses(*(tf.gather(x, source, batch_dims=1) for x in both))
