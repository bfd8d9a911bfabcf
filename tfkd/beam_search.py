"""Exact k-best beam search over any step function; knows no audio, model or text.

Alive and finished hypotheses are kept apart. A finished hypothesis never changes. Whatever is
gathered for a hypothesis (ids, log-probabilities, state) is gathered with the same indices.

Order of the result: higher score first; at equal scores the shorter hypothesis; at equal lengths
the one whose first differing token has the lower id. Hypotheses cut off at `max_tokens` come after
every finished one. A hypothesis may end only where its end is among the `beam_width` best
continuations, so that a width of one is greedy decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

StepFn = Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]]
# Finite, because TFLite turns a constant infinity into the lowest float, which no longer equals
# what the kernels compute. Sums and quotients of impossible values stay below the threshold.
_IMPOSSIBLE = -1e30
_LEAST_POSSIBLE = -1e8


class Scorer(NamedTuple):
    """A further model whose weighted log-probabilities join the ranking (shallow fusion)."""

    weight: float | tf.Tensor  # not negative
    initial_state: Any  # nest of [B, ...]
    step_fn: StepFn  # (token_ids [N] int32, state) -> (log_probs [N, V] float32, <= 0, state)


class Readout(NamedTuple):
    """What the caller wants to know of each hypothesis' state [N] after a step."""

    frame: tf.Tensor  # [N] int32, kept for each token: where the model looked
    coverage: tf.Tensor  # [N] float32, kept when a hypothesis ends


class BeamResult(NamedTuple):
    """The k best hypotheses of each utterance, best first.

    A place that no hypothesis fills has num_tokens 0 and a log_prob and score of -1e30.
    """

    token_ids: tf.Tensor  # [B, K, U] int32, eos included, padded with pad_id
    num_tokens: tf.Tensor  # [B, K] int32, eos included
    log_prob: tf.Tensor  # [B, K] natural-log sum over the tokens, eos included; no scorer's share
    score: tf.Tensor  # [B, K] the ranking value: log_prob and scorers over the length penalty
    token_log_probs: tf.Tensor  # [B, K, U], zero beyond the end
    is_finished: tf.Tensor  # [B, K] bool: ended with eos; otherwise cut off at max_tokens
    frames: tf.Tensor  # [B, K, U] int32, what `readout` says of each token; zero without it
    coverage: tf.Tensor  # [B, K] what `readout` says of the final state; zero without it


class _Hypotheses(NamedTuple):
    """A ranked set of hypotheses of each utterance; the second axis is the rank."""

    score: tf.Tensor
    total: tf.Tensor
    token_ids: tf.Tensor
    token_log_probs: tf.Tensor
    num_tokens: tf.Tensor
    is_finished: tf.Tensor
    frames: tf.Tensor
    coverage: tf.Tensor


class _Alive(NamedTuple):
    """Hypotheses that may go on, in lexicographic order of their token ids."""

    total: tf.Tensor  # [B, W] log_prob and the weighted log-probabilities of the scorers
    token_ids: tf.Tensor  # [B, W, U]
    token_log_probs: tf.Tensor  # [B, W, U]
    frames: tf.Tensor  # [B, W, U]
    last: tf.Tensor  # [B, W] the token to feed next
    states: tuple[Any, ...]  # of the model, then of each scorer; nests of [B * W, ...]


def length_penalty(num_tokens: tf.Tensor | int, alpha: float) -> tf.Tensor:
    """Divisor of a log-probability; Wu et al. 2016, arXiv:1609.08144, eq. 14."""
    return tf.pow((5.0 + tf.cast(num_tokens, tf.float32)) / 6.0, alpha)


def _is_possible(total: tf.Tensor) -> tf.Tensor:
    return total > _LEAST_POSSIBLE


def _score(total: tf.Tensor, num_tokens: tf.Tensor | int, alpha: float) -> tf.Tensor:
    score = total / length_penalty(num_tokens, alpha)
    return tf.where(_is_possible(total), score, _IMPOSSIBLE)


def beam_search(
    step_fn: StepFn,
    initial_state: Any,
    *,
    batch_size: int | tf.Tensor,
    beam_width: int,
    num_hypotheses: int,
    max_tokens: int,
    sos_id: int,
    eos_id: int,
    pad_id: int,
    alpha: float = 0.0,
    scorers: Sequence[Scorer] = (),
    readout: Callable[[Any], Readout] | None = None,
) -> BeamResult:
    """Finds the `num_hypotheses` best token sequences of each utterance.

    Hypotheses are ranked by the log-probabilities of step_fn plus the weighted ones of the scorers;
    log_prob and token_log_probs of the result are those of step_fn alone. A token is impossible
    where its log-probability is not finite or below -1e8. The search ends as soon as no alive
    hypothesis can still enter the k best.

    Args:
      step_fn: maps (token_ids [N] int32, state) to (log_probs [N, V] float32, all <= 0, state),
        where N = batch_size * beam_width and hypotheses of one utterance are neighbours.
      initial_state: nest of tensors [batch_size, ...]; anything that does not differ between the
        hypotheses of one utterance belongs in a closure of step_fn instead.
      beam_width: alive hypotheses that are kept at each step.
      num_hypotheses: hypotheses returned, at most beam_width.
      max_tokens: decoder steps, eos included; not frames or seconds.
      alpha: exponent of the length penalty; 0 ranks by the plain sum.
      scorers: models whose log-probabilities join the ranking. A weight that is a tensor can be
        changed without another trace, but is not checked: a negative one breaks the early stop.
      readout: maps the state after a step to what is kept of it.
    Returns:
      BeamResult with K = num_hypotheses and U = max_tokens.
    Raises:
      ValueError: if a width, k or length is below 1, k exceeds the width, or alpha or the
        weight of a scorer is negative.
    References:
      Wu et al. 2016, arXiv:1609.08144, section 7.
    """
    if beam_width < 1 or not 1 <= num_hypotheses <= beam_width:
        raise ValueError(
            f"need 1 <= num_hypotheses <= beam_width, got {num_hypotheses} and {beam_width}"
        )
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
    if alpha < 0:
        raise ValueError(f"alpha must not be negative, got {alpha}")
    for scorer in scorers:
        if not tf.is_tensor(scorer.weight) and scorer.weight < 0:
            raise ValueError(f"the weight of a scorer must not be negative, got {scorer.weight}")
    shape = [batch_size, beam_width]
    no_ids = tf.fill([*shape, max_tokens], pad_id)
    no_log_probs = tf.zeros([*shape, max_tokens])
    no_frames = tf.zeros([*shape, max_tokens], tf.int32)
    alive = _Alive(
        # One hypothesis to start from; the other places are impossible.
        total=tf.where(tf.range(beam_width) > 0, _IMPOSSIBLE, tf.zeros(shape)),
        token_ids=no_ids,
        token_log_probs=no_log_probs,
        frames=no_frames,
        last=tf.fill(shape, sos_id),
        states=tf.nest.map_structure(
            lambda x: _repeat(x, beam_width),
            (initial_state, *(scorer.initial_state for scorer in scorers)),
        ),
    )
    finished = _Hypotheses(
        score=tf.fill([batch_size, num_hypotheses], _IMPOSSIBLE),
        total=tf.fill([batch_size, num_hypotheses], _IMPOSSIBLE),
        token_ids=no_ids[:, :num_hypotheses],
        token_log_probs=no_log_probs[:, :num_hypotheses],
        num_tokens=tf.zeros([batch_size, num_hypotheses], tf.int32),
        is_finished=tf.zeros([batch_size, num_hypotheses], tf.bool),
        frames=no_frames[:, :num_hypotheses],
        coverage=tf.zeros([batch_size, num_hypotheses]),
    )

    def read(states: tuple[Any, ...]) -> Readout:
        if readout is None:
            return Readout(tf.zeros(shape, tf.int32), tf.zeros(shape))
        return Readout(*(tf.reshape(x, shape) for x in readout(states[0])))

    def by_hypothesis(log_probs: tf.Tensor) -> tf.Tensor:
        return tf.reshape(log_probs, [*shape, log_probs.shape[-1]])

    def may_improve(step: tf.Tensor, alive: _Alive, finished: _Hypotheses) -> tf.Tensor:
        # Log-probabilities only fall, and the divisor is largest at the greatest length.
        best = _score(tf.reduce_max(alive.total, 1), max_tokens, alpha)
        # A later hypothesis of equal score is longer, so it cannot displace one.
        return tf.reduce_any(best > finished.score[:, -1]) & (step < max_tokens)

    def advance(step: tf.Tensor, alive: _Alive, finished: _Hypotheses):
        last = tf.reshape(alive.last, [-1])
        log_probs, state = step_fn(last, alive.states[0])
        log_probs = _usable(log_probs)
        ranking, scorer_states = _join(scorers, log_probs, last, alive.states[1:])
        log_probs, ranking = by_hypothesis(log_probs), by_hypothesis(ranking)
        states = (state, *scorer_states)
        seen = read(states)
        alive = alive._replace(states=states, frames=_write(alive.frames, step, seen.frame))
        totals = tf.expand_dims(alive.total, -1) + ranking
        going_on, is_ending = _choose(totals, eos_id)
        eos_total = tf.where(is_ending, totals[:, :, eos_id], _IMPOSSIBLE)
        ended = _append_eos(alive, eos_total, log_probs[:, :, eos_id], step, eos_id, alpha)
        ended = ended._replace(coverage=seen.coverage)
        finished = _best(_concat(finished, ended), num_hypotheses)
        return step + 1, _extend(alive, totals, log_probs, going_on, step), finished

    step, alive, finished = tf.while_loop(
        may_improve, advance, (tf.constant(0), alive, finished), maximum_iterations=max_tokens
    )
    cut_off = _Hypotheses(
        score=_score(alive.total, max_tokens, alpha),
        total=alive.total,
        token_ids=alive.token_ids,
        token_log_probs=alive.token_log_probs,
        num_tokens=tf.fill(shape, step),
        is_finished=tf.zeros(shape, tf.bool),
        frames=alive.frames,
        coverage=read(alive.states).coverage,
    )
    ranked = _fill(finished, _best(cut_off, num_hypotheses), num_hypotheses)
    result = _result(ranked, pad_id)
    if scorers:
        result = result._replace(log_prob=_sum_of_tokens(result))
    return result


def _repeat(value: tf.Tensor, times: int) -> tf.Tensor:
    """[B, ...] to [B * times, ...]; keeps a static B, which TFLite needs in loops."""
    if value.shape[0] == 1:
        return tf.tile(value, [times] + [1] * (value.shape.rank - 1))
    return tf.repeat(value, times, 0)


def _usable(log_probs: tf.Tensor) -> tf.Tensor:
    """The log-probabilities, impossible where they are not finite."""
    is_finite = tf.abs(log_probs) < -_LEAST_POSSIBLE  # false for NaN
    return tf.where(is_finite, log_probs, _IMPOSSIBLE)


def _join(
    scorers: Sequence[Scorer], log_probs: tf.Tensor, last: tf.Tensor, states: tuple[Any, ...]
) -> tuple[tf.Tensor, list[Any]]:
    """Adds the weighted log-probabilities of the scorers to log_probs [N, V]."""
    new_states = []
    for scorer, state in zip(scorers, states):
        own, state = scorer.step_fn(last, state)
        log_probs += scorer.weight * _usable(own)
        new_states.append(state)
    return log_probs, new_states


def _write(values: tf.Tensor, step: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """Sets values[:, :, step] to column [B, W]; a select converts to TFLite, a scatter is slow."""
    here = tf.equal(tf.range(values.shape[-1]), step)
    return tf.where(here, tf.expand_dims(column, -1), values)


def _append_eos(
    alive: _Alive,
    total: tf.Tensor,
    eos_log_prob: tf.Tensor,
    step: tf.Tensor,
    eos_id: int,
    alpha: float,
) -> _Hypotheses:
    possible = _is_possible(total)
    return _Hypotheses(
        score=_score(total, step + 1, alpha),
        total=total,
        token_ids=_write(alive.token_ids, step, tf.fill(tf.shape(total), eos_id)),
        token_log_probs=_write(alive.token_log_probs, step, eos_log_prob),
        num_tokens=tf.where(possible, step + 1, 0),
        is_finished=possible,
        frames=alive.frames,
        coverage=tf.zeros_like(total),
    )


def _choose(totals: tf.Tensor, eos_id: int) -> tuple[tf.Tensor, tf.Tensor]:
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


def _extend(
    alive: _Alive,
    totals: tf.Tensor,
    log_probs: tf.Tensor,
    going_on: tf.Tensor,
    step: tf.Tensor,
) -> _Alive:
    """The continuations whose indices into [W * V] are `going_on` [B, W]."""
    width, vocabulary = totals.shape[1], totals.shape[2]
    parent, token = going_on // vocabulary, going_on % vocabulary

    def chosen(values: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.reshape(values, [-1, width * vocabulary]), going_on, batch_dims=1)

    first = tf.expand_dims(tf.range(tf.shape(totals)[0]) * width, 1)
    parent_row = tf.reshape(parent + first, [-1])
    token_log_probs = tf.gather(alive.token_log_probs, parent, batch_dims=1)
    return _Alive(
        total=chosen(totals),
        token_ids=_write(tf.gather(alive.token_ids, parent, batch_dims=1), step, token),
        token_log_probs=_write(token_log_probs, step, chosen(log_probs)),
        frames=tf.gather(alive.frames, parent, batch_dims=1),
        last=token,
        states=tf.nest.map_structure(lambda x: tf.gather(x, parent_row), alive.states),
    )


def _concat(first: _Hypotheses, second: _Hypotheses) -> _Hypotheses:
    return _Hypotheses(*(tf.concat(pair, 1) for pair in zip(first, second)))


def _best(hypotheses: _Hypotheses, count: int) -> _Hypotheses:
    """The `count` best; top_k keeps the order of the input where scores are equal."""
    chosen = tf.math.top_k(hypotheses.score, count).indices
    return _Hypotheses(*(tf.gather(x, chosen, batch_dims=1) for x in hypotheses))


def _fill(finished: _Hypotheses, cut_off: _Hypotheses, count: int) -> _Hypotheses:
    """Gives the places that no finished hypothesis takes to those that were cut off."""
    taken = tf.reduce_sum(tf.cast(finished.is_finished, tf.int32), 1, keepdims=True)
    place = tf.expand_dims(tf.range(count), 0)
    source = tf.where(place < taken, place, count + place - taken)
    both = _concat(finished, cut_off)
    return _Hypotheses(*(tf.gather(x, source, batch_dims=1) for x in both))


def _result(ranked: _Hypotheses, pad_id: int) -> BeamResult:
    possible = _is_possible(ranked.total)
    each_token = tf.expand_dims(possible, -1)
    return BeamResult(
        token_ids=tf.where(each_token, ranked.token_ids, pad_id),
        num_tokens=tf.where(possible, ranked.num_tokens, 0),
        log_prob=tf.where(possible, ranked.total, _IMPOSSIBLE),
        score=ranked.score,
        token_log_probs=tf.where(each_token, ranked.token_log_probs, 0.0),
        is_finished=ranked.is_finished & possible,
        frames=tf.where(each_token, ranked.frames, 0),
        coverage=tf.where(possible, ranked.coverage, 0.0),
    )


def _sum_of_tokens(result: BeamResult) -> tf.Tensor:
    """The log_prob of the model alone, where what ranks is more than that."""
    is_empty = tf.equal(result.num_tokens, 0)
    return tf.where(is_empty, _IMPOSSIBLE, tf.reduce_sum(result.token_log_probs, -1))
