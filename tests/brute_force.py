"""Searches in plain Python, to hold the beam search against, and models to search.

They know every sequence that the controls and the width allow, in float32 and with the sums in the
same order as a search makes them, so that equal scores are equal.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfkd.beam_search import BeamResult, Readout, Scorer, StepFn, beam_search
from tfkd.config import SearchControls

PAD, EOS, SOS = 0, 1, 2
# A table model knows a prefix by one of so many hashes.
NUM_HASHES = 61
IMPOSSIBLE_BELOW = -1e8

Ids = tuple[int, ...]
NextLogProbs = Callable[[Ids], np.ndarray]


class Candidate(NamedTuple):
    """A sequence that a search may return."""

    ids: Ids
    score: np.float32
    total: np.float32
    log_prob: np.float32
    is_finished: bool


class Alive(NamedTuple):
    """A sequence that has not ended."""

    ids: Ids
    total: np.float32
    log_prob: np.float32


class Weighted(NamedTuple):
    """A scorer, as exhaustive search knows it."""

    weight: float
    next_log_probs: NextLogProbs


def plain_beam(
    next_log_probs: NextLogProbs,
    max_tokens: int,
    controls: SearchControls,
    scorers: Sequence[Weighted] = (),
    log_coverage: Callable[[Ids], float] = lambda fed: 0.0,
    eos_id: int = EOS,
    *,
    width: int | None,
) -> list[Candidate]:
    """What a beam finds that does not stop early, best first; finished sequences, then the others.

    Args:
      log_coverage: of the tokens that were fed, sos left out.
      width: None for no limit.
    """

    def candidate(alive: Alive, is_finished: bool) -> Candidate:
        score = alive.total / divisor(len(alive.ids), controls)
        score += np.float32(controls.coverage_penalty) * np.float32(log_coverage(alive.ids[:-1]))
        return Candidate(alive.ids, score, alive.total, alive.log_prob, is_finished)

    def continuations(of: Alive) -> Iterator[Alive]:
        own = next_log_probs(of.ids)
        for token, ranking in allowed(of.ids, own, controls, scorers, eos_id):
            yield Alive((*of.ids, token), of.total + ranking, of.log_prob + own[token])

    alive, candidates = [Alive((), np.float32(0), np.float32(0))], []
    for _ in range(max_tokens):
        grown = [each for prefix in alive for each in continuations(prefix)]
        grown.sort(key=lambda each: (-each.total, each.ids))
        candidates += [candidate(each, True) for each in grown[:width] if each.ids[-1] == eos_id]
        alive = [each for each in grown if each.ids[-1] != eos_id][:width]
    candidates += [candidate(each, False) for each in alive]
    return sorted(candidates, key=lambda c: (not c.is_finished, -c.score, len(c.ids), c.ids))


# Every possible sequence.
exhaustive = functools.partial(plain_beam, width=None)


@functools.cache
def divisor(num_tokens: int, controls: SearchControls) -> np.float32:
    if controls.normalisation == "mean":
        return np.float32(num_tokens)
    # TensorFlow's power, whose last digit is not numpy's.
    ratio = (tf.constant(5.0) + num_tokens) / 6.0
    return tf.pow(ratio, controls.length_penalty).numpy()


def allowed(
    prefix: Ids,
    own: np.ndarray,
    controls: SearchControls,
    scorers: Sequence[Weighted],
    eos_id: int,
) -> Iterator[tuple[int, np.float32]]:
    """The tokens that may come next, with what each adds to the ranking."""
    ranking = own
    if controls.temperature != 1:
        logits = own.astype(np.float64) / controls.temperature
        ranking = (logits - np.logaddexp.reduce(logits)).astype(np.float32)
    for weight, next_log_probs in scorers:
        ranking = ranking + np.float32(weight) * next_log_probs(prefix)
    best_other = max(own[token] for token in range(len(own)) if token != eos_id)
    for token, value in enumerate(ranking):
        ids = (*prefix, token)
        is_early = len(ids) < controls.min_tokens
        is_unlikely = (
            controls.eos_threshold is not None
            and not own[eos_id] > np.float32(controls.eos_threshold) * best_other
        )
        if token == eos_id and (is_early or is_unlikely):
            continue
        if value > IMPOSSIBLE_BELOW and not repeats(ids, controls.no_repeat_ngram):
            yield token, value


def repeats(ids: Ids, size: int) -> bool:
    """Whether the last n-gram of that size came before; never for size 0."""
    grams = [ids[start : start + size] for start in range(len(ids) - size + 1)]
    return size > 0 and grams[-1:] != [] and grams[-1] in grams[:-1]


def next_hash(known, token):
    return (known * 7 + token + 1) % NUM_HASHES


def hash_of(fed: Ids) -> int:
    """The state of a table model that was fed sos and these tokens."""
    known = 0
    for token in (SOS, *fed):
        known = next_hash(known, token)
    return known


def random_tables(rng: np.random.Generator, count: int, vocabulary: int) -> np.ndarray:
    """[count, NUM_HASHES, V] log-probabilities of the next token by the hash of the prefix.

    Every second table is coarse: it holds multiples of 1/8, whose sums are exact in float32, so
    that many scores are equal; it is not normalised, which the search does not need.
    """
    logits = rng.normal(size=(count, NUM_HASHES, vocabulary)) * 2
    logits[..., EOS] += 1.0
    tables = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    tables[::2] = -rng.integers(0, 6, tables[::2].shape) / 8
    return tables.astype(np.float32)


def next_of(table: np.ndarray) -> NextLogProbs:
    return lambda prefix: table[hash_of(prefix)]


def stepper(tables: np.ndarray | tf.Tensor, width: int) -> StepFn:
    """The step function of a batch of tables; its state is the hash of what each was fed."""
    tables = tf.constant(tables)

    def step(token_ids, known):
        known = next_hash(known, token_ids)
        utterance = tf.range(tf.shape(token_ids)[0]) // width
        return tf.gather_nd(tables, tf.stack([utterance, known], 1)), known

    return step


def read(known: tf.Tensor) -> Readout:
    """What a table model's state shows: made up, but different from prefix to prefix."""
    return Readout(known, tf.cast(known, tf.float32), -tf.cast(known % 5, tf.float32) / 8)


def log_coverage(fed: Ids) -> float:
    """What `read` makes of the tokens that were fed."""
    return -(hash_of(fed) % 5) / 8


def search(
    tables: np.ndarray,
    *,
    width: int,
    k: int,
    max_tokens: int,
    controls: SearchControls | None = None,
    scorer_tables: Sequence[tuple[float, np.ndarray]] = (),
    token_limits: Sequence[int] | None = None,
    step_fn: StepFn | None = None,
    pad_id: int = PAD,
) -> BeamResult:
    """Beam search over a batch of table models."""
    start = tf.zeros([len(tables)], tf.int32)
    result = beam_search(
        step_fn or stepper(tables, width),
        start,
        batch_size=len(tables),
        beam_width=width,
        num_hypotheses=k,
        max_tokens=max_tokens,
        sos_id=SOS,
        eos_id=EOS,
        pad_id=pad_id,
        token_limits=token_limits,
        controls=controls or SearchControls(),
        scorers=[Scorer(weight, start, stepper(others, width)) for weight, others in scorer_tables],
        readout=read,
    )
    return BeamResult(*(x.numpy() for x in result))


def covering_width(vocabulary: int, max_tokens: int) -> int:
    """A width at which a search loses nothing: all continuations at the last step."""
    return vocabulary * (vocabulary - 1) ** (max_tokens - 1)


def found(result: BeamResult, row: int) -> list[Ids]:
    """The sequences of one utterance, best first."""
    both = zip(result.token_ids[row], result.num_tokens[row], strict=True)
    return [tuple(ids[:count].tolist()) for ids, count in both if count]
