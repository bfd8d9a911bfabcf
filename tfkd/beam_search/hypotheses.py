"""Sets of hypotheses: alive ones are extended, finished ones are ranked and never change.

All tensors of a hypothesis (ids, log-probabilities, state) are gathered with the same indices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class Hypotheses(NamedTuple):
    """A ranked set of hypotheses of each utterance, [B, K] each; the second axis is the rank."""

    score: tf.Tensor  # the value that ranks
    total: tf.Tensor  # the sum of what each token added to the ranking
    num_tokens: tf.Tensor
    is_finished: tf.Tensor
    coverage: tf.Tensor
    place: tf.Tensor  # in the beam, before the step that ended it, or else after the last step
    end_log_prob: tf.Tensor  # log-probability of its EOS; undefined if it is unfinished


class Alive(NamedTuple):
    """Hypotheses that may be extended, in lexicographic order of their token ids."""

    total: tf.Tensor  # [B, W] the sum of what each token added to the ranking
    token_ids: tf.Tensor  # [B, W, U] if a constraint reads them, else [B, W, 0]
    last: tf.Tensor  # [B, W] the token to feed next
    states: tuple[Any, ...]  # of the model, then of each scorer; see `map_states`


def write_column(values: tf.Tensor, step: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """Sets values[:, :, step] to column [B, W] with a select; a scatter is slow in TFLite."""
    here = tf.equal(tf.range(values.shape[-1]), step)
    return tf.where(here, tf.expand_dims(column, -1), values)


def map_states(change: Callable[..., tf.Tensor], *states: Any) -> Any:
    """Applies `change` to the tensors [B * W, ...] of nests with the same structure.

    A tf.TensorArray, such as a model's cache, belongs to all hypotheses together: that of the first
    nest is returned unchanged.
    """
    return tf.nest.map_structure(
        lambda *values: values[0] if isinstance(values[0], tf.TensorArray) else change(*values),
        *states,
    )


def choose_continuations(totals: tf.Tensor, eos_id: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Ranks all continuations of totals [B, W, V].

    Returns:
      The W best that do not end, as ascending indices into [W * V], [B, W]; and whether the EOS of
      each hypothesis is among the W best continuations, [B, W].
    """
    width, vocabulary = totals.shape[1], totals.shape[2]
    # At most W of the 2 W best are EOS, so at least W of them go on.
    best = tf.math.top_k(tf.reshape(totals, [-1, width * vocabulary]), 2 * width).indices
    rank = tf.range(2 * width)
    rank_going_on = tf.where(tf.equal(best % vocabulary, eos_id), rank + 2 * width, rank)
    going_on = tf.gather(best, tf.sort(rank_going_on, axis=1)[:, :width], batch_dims=1)
    ends = tf.range(width) * vocabulary + eos_id
    is_ending = tf.reduce_any(tf.equal(best[:, :width, None], ends), 1)
    # Hypotheses are in lexicographic order, so an index into [W * V] is a lexicographic rank:
    # top_k breaks ties by it, and ascending indices keep the order.
    return tf.sort(going_on, axis=1), is_ending


def extend(
    alive: Alive, totals: tf.Tensor, going_on: tf.Tensor, step: tf.Tensor
) -> tuple[Alive, tf.Tensor]:
    """Extends hypotheses by the continuations `going_on` [B, W], indices into [W * V].

    Returns:
      The extended hypotheses, and the place of the hypothesis that each extends [B, W].
    """
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
        states=map_states(lambda x: tf.gather(x, parent_row), alive.states),
    )
    return extended, parent


def gather_continuations(values: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """Gathers values [B, W, V] at `indices` [B, W] into [W * V]."""
    flat = tf.reshape(values, [-1, values.shape[1] * values.shape[2]])
    return tf.gather(flat, indices, batch_dims=1)


def freeze(is_frozen: tf.Tensor, before: Alive, after: Alive) -> Alive:
    """Undoes a step for the utterances of is_frozen [B], which have reached their own limit."""
    width = before.total.shape[1]
    by_row = tf.reshape(tf.tile(tf.expand_dims(is_frozen, 1), [1, width]), [-1])

    def select(flags: tf.Tensor, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        selected = tf.where(tf.reshape(flags, [-1] + [1] * (old.shape.rank - 1)), old, new)
        selected.set_shape(old.shape)
        return selected

    states = map_states(lambda new, old: select(by_row, old, new), after.states, before.states)
    others = before._replace(states=()), after._replace(states=())
    frozen = tf.nest.map_structure(lambda old, new: select(is_frozen, old, new), *others)
    return frozen._replace(states=states)


def concat(first: Hypotheses, second: Hypotheses) -> Hypotheses:
    """Concatenates two sets along the rank."""
    return Hypotheses(*(tf.concat(pair, 1) for pair in zip(first, second, strict=True)))


def best(hypotheses: Hypotheses, count: int) -> Hypotheses:
    """Returns the `count` best; equal scores keep their order."""
    chosen = tf.math.top_k(hypotheses.score, count).indices
    return Hypotheses(*(tf.gather(x, chosen, batch_dims=1) for x in hypotheses))


def fill_with_cut_off(finished: Hypotheses, cut_off: Hypotheses, count: int) -> Hypotheses:
    """Appends unfinished hypotheses to the finished ones, until there are `count`."""
    taken = tf.reduce_sum(tf.cast(finished.is_finished, tf.int32), 1, keepdims=True)
    place = tf.expand_dims(tf.range(count), 0)
    source = tf.where(place < taken, place, count + place - taken)
    both = concat(finished, cut_off)
    return Hypotheses(*(tf.gather(x, source, batch_dims=1) for x in both))
