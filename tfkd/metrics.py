"""Word and character error rates of a corpus, with bootstrap confidence intervals.

Every rate is a fraction of the reference length (0.1 is 10 %) and may exceed 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jiwer
import numpy as np
from rapidfuzz.distance import Levenshtein

INTERVAL_PERCENTILES = (2.5, 97.5)

# Columns of the per-utterance counts.
INSERTIONS, DELETIONS, SUBSTITUTIONS, HITS = range(4)

# Resamples of a comparison. The least p-value depends on them: it is 0.0002.
COMPARISON_SAMPLES = 10_000

# Chinese characters, kana, Thai, Lao, Burmese and Khmer.
_WRITTEN_WITHOUT_SPACES = re.compile(
    "[\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
)

# Limits the memory of the bootstrap: the number of indices, of 8 bytes, that are drawn at once.
MAX_DRAWN_INDICES = 1 << 22


@dataclass(frozen=True)
class ErrorRate:
    """Errors of one system on one corpus.

    Attributes:
      wer: (insertions + deletions + substitutions) / words, a fraction. If no reference has a word,
        it is the number of insertions, as in jiwer.
      wer_low: lower end of the 95 % interval of `wer`.
      wer_high: its upper end.
      cer: the same ratio for characters, including the spaces between words.
      insertions: number of words in the hypotheses alone.
      deletions: number of words in the references alone.
      substitutions: number of words that were recognised as another one.
      words: number of words of the references (hits + deletions + substitutions); see `words_of`.
      utterances: number of scored pairs.
    """

    wer: float
    wer_low: float
    wer_high: float
    cer: float
    insertions: int
    deletions: int
    substitutions: int
    words: int
    utterances: int


def score(
    references: Sequence[str], hypotheses: Sequence[str], *, seed: int = 0, samples: int = 1000
) -> ErrorRate:
    """Scores hypotheses against references in the same order.

    Texts are compared as they are, except for white space; normalise both in the same way before.
    Empty references count: words recognised there are insertions. So do empty hypotheses, whose
    missing words are deletions.

    Args:
      references: what was said, [U] strings.
      hypotheses: what was recognised, [U] strings.
      seed: of the bootstrap; the same seed gives the same interval.
      samples: number of bootstrap resamples.
    Raises:
      ValueError: if the lengths differ, there is no utterance, or `samples` < 1.
    References:
      Bisani & Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance
      evaluation", ICASSP (the utterance is the unit that is resampled).

    >>> rate = tfkd.score(["turn the light on", "stop"], ["turn light on", "stop it"])
    >>> rate.wer, rate.deletions, rate.insertions, rate.words
    (0.4, 1, 1, 5)
    >>> rate.wer_low <= rate.wer <= rate.wer_high
    True
    """
    references, hypotheses = _folded(references), _folded(hypotheses)
    _check_lengths(samples, references, hypotheses)
    counts = count_word_errors(references, hypotheses)
    characters = _edit_counts(jiwer.process_characters(references, hypotheses).alignments)
    wer, low, high = rate_with_interval(counts, seed=seed, samples=samples)
    totals = counts.sum(axis=0)
    return ErrorRate(
        wer=wer,
        wer_low=low,
        wer_high=high,
        cer=float(_rate(characters.sum(axis=0))),
        insertions=int(totals[INSERTIONS]),
        deletions=int(totals[DELETIONS]),
        substitutions=int(totals[SUBSTITUTIONS]),
        words=int(totals[DELETIONS:].sum()),
        utterances=len(references),
    )


def count_word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """Counts insertions, deletions, substitutions and hits of each utterance, int64 [U, 4].

    The rows of several calls may be concatenated and passed to `rate_with_interval`.
    """
    references, hypotheses = (
        [" ".join(words_of(text)) for text in texts] for texts in (references, hypotheses)
    )
    words = jiwer.process_words(references, hypotheses)
    return _edit_counts(words.alignments)


def words_of(text: str) -> list[str]:
    """Splits a text into the words that error rates count.

    Scripts without spaces between words (Chinese characters, kana, Thai, Lao, Burmese and Khmer)
    have no others: each of their letters counts as a word, as is usual for them. A sentence would
    otherwise be one word, wrong until all of it is right.

    >>> words_of("play 音楽 now")
    ['play', '音', '楽', 'now']
    """
    return _WRITTEN_WITHOUT_SPACES.sub(r" \g<0> ", text).split()


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Computes the WER of one pair, as `score` defines it, without the slower alignment.

    >>> word_error_rate("turn the light on", "turn light off")
    0.5
    """
    words = words_of(reference)
    return Levenshtein.distance(words, words_of(hypothesis)) / max(1, len(words))


def rate_with_interval(
    counts: np.ndarray, *, seed: int = 0, samples: int = 1000
) -> tuple[float, float, float]:
    """Computes the WER and its 95 % interval, (rate, low, high), from the counts [U, 4].

    Counts [R, U, 4] are those of R runs of a system, such as one for each seed: the rate is then
    the mean over the runs, and the bootstrap draws runs as well as utterances.
    """
    (resampled,) = _bootstrap([counts], seed=seed, samples=samples)
    low, high = np.percentile(resampled, INTERVAL_PERCENTILES)
    return float(_rate(_summed(counts))), float(low), float(high)


class Difference(NamedTuple):
    """The difference between the WER of two systems on the same utterances.

    Attributes:
      wer: WER of A minus WER of B, a fraction; below zero, A is better.
      low: lower end of its 95 % interval.
      high: its upper end. On a handful of utterances the interval is too narrow: `p_value` tells
        whether the difference is significant. A handful of runs makes both somewhat too narrow.
      p_value: two-sided probability of a difference as large if the systems were equally good. It
        is never below `least_p_value` of the number of resamples. Nor is it below 2^(1 - m), where
        m utterances differ: no test that swaps the two systems' results of an utterance could give
        less.
    """

    wer: float
    low: float
    high: float
    p_value: float


def difference_of_counts(
    counts_a: np.ndarray,
    counts_b: np.ndarray,
    *,
    seed: int = 0,
    samples: int = COMPARISON_SAMPLES,
) -> Difference:
    """Compares two systems by their errors in the same utterances.

    Both are resampled with the same utterances, so the difficulty of an utterance for both cancels
    out, and the interval is narrower than those of the two systems suggest. The difference of
    systems with several runs, such as one for each seed, is that of their mean WER. Their runs are
    drawn in pairs, too: that of A and that of B with the same seed.

    Args:
      counts_a: of `count_word_errors`, int64 [U, 4], for system A, or [R, U, 4] for R runs of it.
      counts_b: those of system B, in the same order.
      seed: of the bootstrap.
      samples: bootstrap resamples.
    Raises:
      ValueError: if the shapes differ.
    References:
      Bisani & Ney 2004, section 3 (paired bootstrap); Davison & Hinkley 1997, "Bootstrap methods
      and their application", section 3.8 (of data in groups).

    >>> said = ["a b", "c d"]
    >>> good, bad = (count_word_errors(said, each) for each in (said, ["a x", "c x"]))
    >>> difference = difference_of_counts(good, bad)
    >>> difference.wer, difference.low, difference.high
    (-0.5, -0.5, -0.5)
    """
    if counts_a.shape != counts_b.shape:
        raise ValueError(f"counts {counts_a.shape} of A, but {counts_b.shape} of B")
    resampled_a, resampled_b = _bootstrap([counts_a, counts_b], seed=seed, samples=samples)
    differences = resampled_a - resampled_b
    low, high = np.percentile(differences, INTERVAL_PERCENTILES)
    # Add one to numerator and denominator, because finitely many samples cannot prove p = 0
    # (Davison & Hinkley 1997, section 4.2).
    smaller = int(min(np.sum(differences <= 0), np.sum(differences >= 0)))
    of_utterances = (_rate(_by_run(each).sum(axis=0)) for each in (counts_a, counts_b))
    differing = np.count_nonzero(np.not_equal(*of_utterances))
    # Resamples of a few utterances are too much alike to show how little these prove.
    p_value = min(1.0, max((smaller + 1) * least_p_value(samples), 2.0 ** (1 - differing)))
    wer_a, wer_b = (float(_rate(_summed(each))) for each in (counts_a, counts_b))
    return Difference(wer_a - wer_b, float(low), float(high), float(p_value))


def least_p_value(samples: int) -> float:
    """Computes the p-value of a difference with the same sign in all of `samples` resamples.

    It is an upper limit: more resamples could give less.

    >>> round(least_p_value(10_000), 4)
    0.0002
    """
    return 2 / (samples + 1)


def corrected_for_many(p_values: Sequence[float]) -> list[float]:
    """Corrects the p-values of several comparisons, of which some are small by chance.

    Where there is no difference at all, any of them then comes below 0.05 in 5 % of cases at most.

    References:
      Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
      Statistics 6.

    >>> corrected_for_many([0.25, 0.01, 0.02])
    [0.25, 0.03, 0.04]
    """
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def _folded(texts: Sequence[str]) -> list[str]:
    return [" ".join(text.split()) for text in texts]


def _check_lengths(samples: int, references: Sequence[str], hypotheses: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(references)} references but {len(hypotheses)} hypotheses")
    if not references:
        raise ValueError("no utterance to score")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")


def _edit_counts(alignments: Sequence[Sequence[jiwer.AlignmentChunk]]) -> np.ndarray:
    """Counts of each utterance, int64 [U, 4]: insertions, deletions, substitutions, hits."""
    columns = {"insert": INSERTIONS, "delete": DELETIONS, "substitute": SUBSTITUTIONS}
    counts = np.zeros((len(alignments), 4), np.int64)
    for row, chunks in zip(counts, alignments, strict=True):
        for chunk in chunks:
            length = max(
                chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
            )
            row[columns.get(chunk.type, HITS)] += length
    return counts


def _by_run(counts: np.ndarray) -> np.ndarray:
    """Counts [R, U, 4], of counts [U, 4] of one run or [R, U, 4] of several."""
    return counts.reshape(-1, *counts.shape[-2:])


def _summed(counts: np.ndarray) -> np.ndarray:
    """The counts [4] of all utterances and runs together."""
    return _by_run(counts).sum(axis=(0, 1))


def _rate(totals: np.ndarray) -> np.ndarray:
    """Error rate of summed counts [..., 4]; the number of errors if the references are empty."""
    return _share(*_errors_and_words(totals))


def _share(errors: np.ndarray, words: np.ndarray) -> np.ndarray:
    return errors / np.maximum(words, 1)


def _errors_and_words(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of errors and of reference words, of counts [..., 4]."""
    return counts[..., : SUBSTITUTIONS + 1].sum(axis=-1), counts[..., DELETIONS:].sum(axis=-1)


def _bootstrap(systems: Sequence[np.ndarray], *, seed: int, samples: int) -> list[np.ndarray]:
    """Error rates of each system, float64 [samples], over the same resampled utterances and runs.

    Utterances and runs are drawn independently: each drawn run has all drawn utterances.
    """
    systems = [_by_run(counts) for counts in systems]
    runs, utterances = systems[0].shape[:2]
    block = max(1, MAX_DRAWN_INDICES // utterances)
    generator = np.random.default_rng(seed)
    rates: list[list[np.ndarray]] = [[] for _ in systems]
    for start in range(0, samples, block):
        size = (min(block, samples - start), utterances)
        drawn = generator.integers(0, utterances, size)
        drawn_runs = generator.integers(0, runs, (len(drawn), runs))
        for counts, blocks in zip(systems, rates, strict=True):
            # Gather one number of an utterance after the other, which takes least memory.
            of_runs = (
                np.stack([run[drawn].sum(axis=1) for run in each], axis=1)
                for each in _errors_and_words(counts)
            )
            sums = (np.take_along_axis(each, drawn_runs, axis=1).sum(axis=1) for each in of_runs)
            blocks.append(_share(*sums))
    return [np.concatenate(blocks) for blocks in rates]
