"""The search loop.

Results are ordered by score, then by length, shorter first, then by the id of the first token that
differs. Unfinished hypotheses, which reached the length limit, come after all finished ones. A
hypothesis may end only if its EOS is among the `beam_width` best continuations, so a width of one
is greedy decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import tensorflow as tf

from tfkd.beam_search.backpointers import Sequences, Step, append, no_history, read_back
from tfkd.beam_search.constraints import constrained, reads_tokens
from tfkd.beam_search.hypotheses import (
    Alive,
    Hypotheses,
    best,
    choose_continuations,
    concat,
    extend,
    fill_with_cut_off,
    freeze,
    gather_continuations,
    map_states,
)
from tfkd.beam_search.interface import BeamResult, Readout, Scorer, StepFn
from tfkd.beam_search.ranking import IMPOSSIBLE, is_possible, score_of, tempered, usable
from tfkd.config import SearchControls, from_dict

_PLAIN = SearchControls()


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
    token_limits: tf.Tensor | None = None,
    controls: SearchControls = _PLAIN,
    scorers: Sequence[Scorer] = (),
    readout: Callable[[Any], Readout] | None = None,
) -> BeamResult:
    """Finds the `num_hypotheses` best token sequences of each utterance.

    Hypotheses are ranked by the log-probabilities of step_fn plus the weighted ones of the scorers,
    modified by the controls; log_prob and token_log_probs of the result are those of step_fn alone.
    A token is impossible if its log-probability is not finite or below -1e8. The search ends as
    soon as no alive hypothesis can still enter the k best.

    Args:
      step_fn: maps (token_ids [N] int32, state) to (log_probs [N, V], all <= 0, state), where
        N = batch_size * beam_width and hypotheses of one utterance are neighbours. The search
        computes in float32; other dtypes are cast.
      initial_state: nest of tensors [batch_size, ...]. Tensors that all hypotheses of an utterance
        share should be captured by step_fn instead, since the state is copied for each hypothesis.
        A tf.TensorArray in it is neither copied nor reordered: step_fn may write the N rows of each
        step to it, if the state of each hypothesis also holds the numbers of its rows.
      batch_size: number of utterances, B; an empty batch gives an empty result.
      beam_width: number of alive hypotheses at each step, W.
      num_hypotheses: number of hypotheses that are returned, k, at most beam_width.
      max_tokens: largest number of steps, eos included; not frames or seconds.
      sos_id: the first input of step_fn and scorers; it need not be in the vocabulary.
      eos_id: the token that ends a hypothesis.
      pad_id: fills the result beyond each end; it need not be in the vocabulary.
      token_limits: [batch_size] integers, a limit from 1 to max_tokens for each utterance.
      controls: see `tfkd.config.SearchControls`.
      scorers: models whose log-probabilities are added to the ranking. A weight that is a tensor
        can be changed without tracing again, but is not checked: a negative one would make the
        search end too early.
      readout: maps the state after a step to the values that are kept of it.
    Returns:
      BeamResult with K = num_hypotheses and U = max_tokens.
    Raises:
      ValueError: if a width, k or length is below 1, k exceeds the width, eos is not a token of
        step_fn or its only one, the weight of a scorer is negative or NaN, a coverage penalty is
        set but the readout gives no log_coverage, step_fn gives log_probs that are not [N, V], or
        it changes the structure, dtypes or shapes of its state.
      ConfigError: if a control is out of its range.

    In this example the state counts the steps, and token 0 is both sos and eos:

    >>> import tensorflow as tf
    >>> from tfkd.beam_search import beam_search
    >>> by_step = tf.math.log([[0.1, 0.6, 0.3], [0.7, 0.2, 0.1]])
    >>> def step_fn(token_ids, step):
    ...     return tf.gather(by_step, tf.minimum(step, 1)), step + 1
    >>> result = beam_search(
    ...     step_fn, tf.zeros([1], tf.int32), batch_size=1, beam_width=3, num_hypotheses=2,
    ...     max_tokens=4, sos_id=0, eos_id=0, pad_id=-1)
    >>> result.token_ids.numpy().tolist()
    [[[1, 0, -1, -1], [2, 0, -1, -1]]]
    >>> [f"{p:.2f}" for p in tf.exp(result.log_prob).numpy()[0]]  # 0.6 * 0.7 and 0.3 * 0.7
    ['0.42', '0.21']
    """
    if beam_width < 1 or not 1 <= num_hypotheses <= beam_width:
        raise ValueError(
            f"need 1 <= num_hypotheses <= beam_width, not {num_hypotheses} and {beam_width}"
        )
    if eos_id < 0:
        raise ValueError(f"eos_id must be a token, not {eos_id}")
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
    for scorer in scorers:
        if not tf.is_tensor(scorer.weight) and not scorer.weight >= 0:
            raise ValueError(f"the weight of a scorer must be at least 0, not {scorer.weight}")
    # Validate the controls as if they came from a config file.
    from_dict(type(controls), asdict(controls))
    search = _Search(
        step_fn=step_fn,
        scorers=tuple(scorers),
        readout=readout,
        controls=controls,
        shape=(batch_size, beam_width),
        num_hypotheses=num_hypotheses,
        max_tokens=max_tokens,
        token_limits=token_limits,
        eos_id=eos_id,
    )
    states = (initial_state, *(scorer.initial_state for scorer in scorers))
    first, history = search.first(states, sos_id, pad_id), no_history(search.shape, max_tokens)
    step, alive, finished, history = tf.while_loop(
        search.may_improve,
        search.advance,
        (tf.constant(0), first, search.none(), history),
        maximum_iterations=max_tokens,
    )
    ranked = fill_with_cut_off(
        finished, best(search.cut_off(step, alive), num_hypotheses), num_hypotheses
    )
    result = _result(ranked, read_back(history, step, ranked, eos_id), pad_id)
    if scorers or controls.temperature != 1:
        result = result._replace(log_prob=_sum_of_tokens(result))
    return result


@dataclass(frozen=True)
class _Search:
    """The body of the loop, and the values that do not change from step to step."""

    step_fn: StepFn
    scorers: tuple[Scorer, ...]
    readout: Callable[[Any], Readout] | None
    controls: SearchControls
    shape: tuple[int | tf.Tensor, int]  # batch size, beam width
    num_hypotheses: int
    max_tokens: int
    token_limits: tf.Tensor | None
    eos_id: int

    def first(self, states: tuple[Any, ...], sos_id: int, pad_id: int) -> Alive:
        """Makes one empty hypothesis an utterance; the other places are impossible."""
        width = self.shape[1]
        columns = self.max_tokens if reads_tokens(self.controls) else 0
        return Alive(
            total=tf.where(tf.range(width) > 0, IMPOSSIBLE, tf.zeros(self.shape)),
            token_ids=tf.fill([*self.shape, columns], pad_id),
            last=tf.fill(self.shape, sos_id),
            states=_repeated(states, *self.shape),
        )

    def none(self) -> Hypotheses:
        """Makes a set without finished hypotheses."""
        places = [self.shape[0], self.num_hypotheses]
        return Hypotheses(
            score=tf.fill(places, IMPOSSIBLE),
            total=tf.fill(places, IMPOSSIBLE),
            num_tokens=tf.zeros(places, tf.int32),
            is_finished=tf.zeros(places, tf.bool),
            coverage=tf.zeros(places),
            place=tf.zeros(places, tf.int32),
            end_log_prob=tf.zeros(places),
        )

    @property
    def limit(self) -> int | tf.Tensor:
        """The largest number of tokens of a hypothesis; a scalar, or [B]."""
        if self.token_limits is None:
            return self.max_tokens
        return tf.clip_by_value(tf.cast(self.token_limits, tf.int32), 1, self.max_tokens)

    def _num_known(self, step: tf.Tensor) -> tf.Tensor:
        """The number of tokens of alive hypotheses before a step; a scalar, or [B, 1, 1]."""
        if self.token_limits is None:
            return step
        return tf.reshape(tf.minimum(step, self.limit), [-1, 1, 1])

    def may_improve(
        self, step: tf.Tensor, alive: Alive, finished: Hypotheses, _: Step
    ) -> tf.Tensor:
        """Whether an alive hypothesis of any utterance can still enter its k best."""
        # Log-probabilities only lower a total, and the divisor is largest at the length limit.
        upper_bound = score_of(tf.reduce_max(alive.total, 1), self.limit, self.controls)
        # A later hypothesis of equal score is longer, so it cannot displace a finished one.
        return tf.reduce_any((upper_bound > finished.score[:, -1]) & (step < self.limit))

    def advance(self, step: tf.Tensor, alive: Alive, finished: Hypotheses, history: Step):
        """Runs one step of all models, extends the alive hypotheses and ranks those that end."""
        log_probs, ranking, states = self._score_tokens(alive)
        ranking = constrained(
            ranking,
            log_probs,
            alive.token_ids,
            step,
            self._num_known(step),
            self.eos_id,
            self.controls,
        )
        seen = self._read(states)
        totals = tf.expand_dims(alive.total, -1) + ranking
        going_on, is_ending = choose_continuations(totals, self.eos_id)
        if self.token_limits is not None:
            is_frozen = step >= self.limit
            is_ending &= tf.logical_not(tf.expand_dims(is_frozen, -1))
        eos_total = tf.where(is_ending, totals[:, :, self.eos_id], IMPOSSIBLE)
        ended = self._ended(step, eos_total, log_probs[:, :, self.eos_id], seen)
        extended, parent = extend(alive._replace(states=states), totals, going_on, step)
        if self.token_limits is not None:
            extended = freeze(is_frozen, alive, extended)
            parent = tf.where(tf.expand_dims(is_frozen, -1), self._places(), parent)
        choices = Step(parent, extended.last, gather_continuations(log_probs, going_on), seen.frame)
        finished = best(concat(finished, ended), self.num_hypotheses)
        return step + 1, extended, finished, append(history, step, choices)

    def _places(self) -> tf.Tensor:
        """The place of each hypothesis in the beam, [B, W]."""
        return tf.broadcast_to(tf.range(self.shape[1]), self.shape)

    def cut_off(self, step: tf.Tensor, alive: Alive) -> Hypotheses:
        """Scores the hypotheses that are still alive when the search stops."""
        limit = self.limit if self.token_limits is None else tf.expand_dims(self.limit, -1)
        seen = self._read(alive.states)
        return Hypotheses(
            score=score_of(alive.total, limit, self.controls, seen.log_coverage),
            total=alive.total,
            num_tokens=tf.broadcast_to(tf.minimum(step, limit), self.shape),
            is_finished=tf.zeros(self.shape, tf.bool),
            coverage=seen.coverage,
            place=self._places(),
            end_log_prob=tf.zeros(self.shape),
        )

    def _score_tokens(self, alive: Alive) -> tuple[tf.Tensor, tf.Tensor, tuple[Any, ...]]:
        """Computes log-probs of the next tokens and their ranking, [B, W, V], and the states."""
        last = tf.reshape(alive.last, [-1])
        log_probs, state = self._step(self.step_fn, last, alive.states[0])
        if not self.eos_id < (vocabulary := log_probs.shape[-1]) >= 2:
            raise ValueError(
                f"step_fn gives {vocabulary} tokens; it needs eos_id {self.eos_id} and another one"
            )
        ranking = tempered(log_probs, self.controls.temperature)
        states = [state]
        for scorer, own in zip(self.scorers, alive.states[1:], strict=True):
            own_log_probs, own = self._step(scorer.step_fn, last, own)
            ranking += scorer.weight * own_log_probs
            states.append(own)
        shape = [*self.shape, log_probs.shape[-1]]
        return tf.reshape(log_probs, shape), tf.reshape(ranking, shape), tuple(states)

    def _step(self, step_fn: StepFn, last: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        log_probs, new_state = step_fn(last, state)
        _check_state(state, new_state)
        log_probs = usable(log_probs)
        if not log_probs.shape.is_compatible_with([last.shape[0], None]):
            raise ValueError(
                f"step_fn gives log_probs {log_probs.shape} of token_ids {last.shape}; they must "
                "be [N, V], a row for each token id"
            )
        return log_probs, new_state

    def _read(self, states: tuple[Any, ...]) -> Readout:
        if self.readout is None:
            seen = Readout(tf.zeros(self.shape, tf.int32), tf.zeros(self.shape))
        else:
            seen = tf.nest.map_structure(
                lambda x: x if x is None else tf.reshape(x, self.shape), self.readout(states[0])
            )
        if not self.controls.coverage_penalty:
            return seen._replace(log_coverage=None)
        if seen.log_coverage is None:
            raise ValueError("a coverage penalty needs a readout that gives log_coverage")
        return seen

    def _ended(
        self, step: tf.Tensor, total: tf.Tensor, eos_log_prob: tf.Tensor, seen: Readout
    ) -> Hypotheses:
        """Appends EOS to the alive hypotheses; those with an impossible `total` stay impossible."""
        possible = is_possible(total)
        return Hypotheses(
            score=score_of(total, step + 1, self.controls, seen.log_coverage),
            total=total,
            num_tokens=tf.where(possible, step + 1, 0),
            is_finished=possible,
            coverage=seen.coverage,
            place=self._places(),
            end_log_prob=eos_log_prob,
        )


def _repeated(states: Any, batch: int | tf.Tensor, times: int) -> Any:
    """Repeats the tensors [B, ...] of a nest to [B * times, ...]; TFLite needs a static B."""
    rows = tf.range(batch * times) // times
    return map_states(lambda x: tf.gather(x, rows), states)


def _check_state(before: Any, after: Any) -> None:
    """Raises ValueError if step_fn changed its state; the message of tf.while_loop is unclear."""
    advice = "step_fn must return a state like the one that it is given"
    try:
        tf.nest.assert_same_structure(before, after)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{advice}: the structures differ") from error
    for old, new in zip(tf.nest.flatten(before), tf.nest.flatten(after), strict=True):
        if isinstance(old, tf.TensorArray) and isinstance(new, tf.TensorArray):
            continue
        if not tf.is_tensor(new):
            raise ValueError(f"{advice}: {old.dtype.name} {old.shape} became {new!r}, no tensor")
        if old.dtype != new.dtype or not old.shape.is_compatible_with(new.shape):
            raise ValueError(
                f"{advice}: {old.dtype.name} {old.shape} became {new.dtype.name} {new.shape}"
            )


def _result(ranked: Hypotheses, sequences: Sequences, pad_id: int) -> BeamResult:
    possible = is_possible(ranked.total)
    num_tokens = tf.where(possible, ranked.num_tokens, 0)
    is_token = tf.range(sequences.token_ids.shape[-1]) < tf.expand_dims(num_tokens, -1)
    total = tf.where(possible, ranked.total, IMPOSSIBLE)
    return BeamResult(
        token_ids=tf.where(is_token, sequences.token_ids, pad_id),
        num_tokens=num_tokens,
        log_prob=total,
        total=total,
        score=ranked.score,
        token_log_probs=tf.where(is_token, sequences.token_log_probs, 0.0),
        is_finished=ranked.is_finished & possible,
        frames=tf.where(is_token, sequences.frames, 0),
        coverage=tf.where(possible, ranked.coverage, 0.0),
    )


def _sum_of_tokens(result: BeamResult) -> tf.Tensor:
    """Sums the log-probabilities of step_fn alone, where scorers or temperature changed `total`."""
    is_empty = tf.equal(result.num_tokens, 0)
    return tf.where(is_empty, IMPOSSIBLE, tf.reduce_sum(result.token_log_probs, -1))
