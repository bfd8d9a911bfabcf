"""Filters: decide from which hypotheses of a teacher a student learns.

Every filter compares a measure of the hypothesis with a limit of `FilterConfig`. A hypothesis whose
measure is at the limit, or unknown, is kept. A measure depends on the record alone, not on other
filters; so the order of the filters does not matter, and a stricter limit never keeps more.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from tfkd.config import FilterConfig
from tfkd.metrics import word_error_rate, words_of
from tfkd.records import Hypothesis, PseudoLabelRecord


@dataclass(frozen=True)
class Fault:
    """A reason not to learn from a hypothesis or an utterance.

    Attributes:
      reason: its name in reports, such as "low_coverage".
      value: the measured value; None where the reason is not a limit.
      threshold: the limit that `value` exceeds, or falls short of; None where there is none.
    """

    reason: str
    value: float | None = None
    threshold: float | None = None


class Judged(NamedTuple):
    """A hypothesis and the reasons against it; it is kept if there are none."""

    hypothesis: Hypothesis
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Measure:
    """A number for each hypothesis of a record.

    Attributes:
      title: the measure's name on the report.
      of: maps a record without duplicates to one value a hypothesis, None where it is unknown.
    """

    title: str
    of: Callable[[PseudoLabelRecord, FilterConfig], Sequence[float | None]]


@dataclass(frozen=True)
class Filter:
    """A limit on a measure.

    Attributes:
      setting: the field of `FilterConfig` that holds the limit.
      reason: the name that reports give to what it removes.
      is_minimum: whether values below the limit are refused, not those above it.
    """

    setting: str
    reason: str
    measure: Measure
    is_minimum: bool = False

    def threshold(self, filters: FilterConfig) -> float | None:
        """The limit, or None where the filter is off."""
        value = getattr(filters, self.setting)
        if isinstance(value, bool):
            return 0.0 if value else None
        return value

    def refuses(self, value: float | None, filters: FilterConfig) -> bool:
        """Whether `value` is beyond the limit."""
        threshold = self.threshold(filters)
        if value is None or threshold is None:
            return False
        return value < threshold if self.is_minimum else value > threshold


def judge(record: PseudoLabelRecord, filters: FilterConfig) -> list[Judged]:
    """Decides which hypotheses of a record a student learns from.

    Training and the filter report both call this function, so they cannot disagree.

    Returns:
      The hypotheses of `merge_duplicates`, in that order, each with all reasons against it.
    """
    record = merge_duplicates(record)
    faults: list[list[Fault]] = [[] for _ in record.hypotheses]
    for each in FILTERS:
        threshold = each.threshold(filters)
        if threshold is None:
            continue
        for found, value in zip(faults, each.measure.of(record, filters), strict=True):
            if each.refuses(value, filters):
                found.append(Fault(each.reason, value, threshold))
    return [Judged(h, tuple(found)) for h, found in zip(record.hypotheses, faults, strict=True)]


def merge_duplicates(record: PseudoLabelRecord) -> PseudoLabelRecord:
    """Merges the hypotheses whose texts have the same words.

    Several token sequences can spell one text; its probability is the sum of theirs. The most
    probable sequence is kept, with the sum as log_prob and total, at the rank of the best of them.
    A hypothesis that reached max_tokens is not merged with one that ended with EOS, because its
    log_prob is that of an unfinished text.
    """
    same: dict[tuple[str, str | None], list[Hypothesis]] = {}
    for hypothesis in record.hypotheses:
        key = (_one_spaced(hypothesis.text), hypothesis.finish_reason)
        same.setdefault(key, []).append(hypothesis)
    return replace(record, hypotheses=tuple(map(_merged, same.values())))


def log_masses(hypotheses: Sequence[Hypothesis]) -> list[float] | None:
    """Returns the natural logarithm of what each hypothesis has of the teacher's posterior.

    It is the total of the teacher's search, so that what CTC or a language model finds unlikely
    weighs little; log_prob where labels have no total; None if that is unknown, too.
    """
    return _known(hypotheses, "total") or _known(hypotheses, "log_prob")


def posterior(logs: Sequence[float], temperature: float = 1.0) -> list[float]:
    """Computes softmax(logs / temperature).

    >>> posterior([0.0, 0.0])
    [0.5, 0.5]
    """
    best = max(logs)
    masses = [math.exp((each - best) / temperature) for each in logs]
    return [mass / sum(masses) for mass in masses]


def successive_repeats(words: Sequence[str]) -> int:
    """Counts how often one sequence of words is repeated in succession: 1 if none is.

    >>> successive_repeats("go left go left go left".split())
    3
    """
    most = min(1, len(words))
    for period in range(1, len(words) // 2 + 1):
        matches = 0
        for earlier, later in zip(words, words[period:], strict=False):
            matches = matches + 1 if earlier == later else 0
            most = max(most, 1 + matches // period)
    return most


def compression_ratio(text: str) -> float:
    """Divides the UTF-8 bytes of a text by its bytes after zlib; loops have a high ratio.

    References:
      Radford et al. 2022, "Robust speech recognition via large-scale weak supervision",
      arXiv:2212.04356, section 4.5, with a limit of 2.4.
    """
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def backward_share(seconds: Sequence[float], tolerance_seconds: float) -> float:
    """Computes the share of steps between tokens at which attention moves back in time.

    Args:
      seconds: the time that attention gives to each token.
      tolerance_seconds: smaller moves back do not count.
    """
    falls = [earlier - later > tolerance_seconds for earlier, later in pairwise(seconds)]
    return sum(falls) / max(1, len(falls))


def disagreement(texts: Sequence[str], logs: Sequence[float]) -> float:
    """Computes the expected edit distance between two texts that are drawn from the posterior.

    The distance is in characters, divided by the length of the longer text, so between 0 and 1.
    This is the Bayes risk that minimum Bayes risk decoding minimises, averaged over the texts.

    Args:
      logs: those of `log_masses`.
    References:
      Goel and Byrne 2000, "Minimum Bayes-risk automatic speech recognition".
    """
    shares = posterior(logs)
    return 2 * sum(
        shares[i] * shares[j] * Levenshtein.normalized_distance(texts[i], texts[j])
        for i, j in combinations(range(len(texts)), 2)
    )


def _one_spaced(text: str) -> str:
    """The text with single spaces between words; tokens may spell several."""
    return " ".join(text.split())


def _merged(same: Sequence[Hypothesis]) -> Hypothesis:
    logs = log_masses(same)
    if len(same) == 1 or logs is None:
        return same[0]
    log_prob, total = _log_sum(_known(same, "log_prob")), _log_sum(_known(same, "total"))
    return replace(same[logs.index(max(logs))], log_prob=log_prob, total=total)


def _known(hypotheses: Sequence[Hypothesis], name: str) -> list[float] | None:
    """The values of a field, or None if that of any is unknown."""
    values = [getattr(each, name) for each in hypotheses]
    return None if None in values else values


def _log_sum(logs: Sequence[float] | None) -> float | None:
    """The logarithm of the sum of the exponentials; None if they are unknown."""
    if logs is None:
        return None
    best = max(logs)
    return best + math.log(sum(math.exp(each - best) for each in logs))


# The measures: one value a hypothesis.


def _unfinished(record: PseudoLabelRecord, filters: FilterConfig) -> list[float | None]:
    return [
        None if each.finish_reason is None else float(each.finish_reason != "eos")
        for each in record.hypotheses
    ]


def _repeats(record: PseudoLabelRecord, filters: FilterConfig) -> list[float | None]:
    return [successive_repeats(words_of(each.text)) for each in record.hypotheses]


def _compression_ratio(record: PseudoLabelRecord, filters: FilterConfig) -> list[float | None]:
    return [compression_ratio(each.text) for each in record.hypotheses]


def _speaking_rate(record: PseudoLabelRecord, filters: FilterConfig) -> list[float | None]:
    seconds = record.utterance.num_samples / record.utterance.sample_rate_hz
    return [len("".join(each.text.split())) / seconds for each in record.hypotheses]


def _mean_log_prob(record: PseudoLabelRecord, filters: FilterConfig) -> list[float | None]:
    return [
        None if each.log_prob is None or not each.token_ids else each.log_prob / each.num_tokens
        for each in record.hypotheses
    ]


def _coverage(record: PseudoLabelRecord, filters: FilterConfig) -> list[float | None]:
    return [each.coverage for each in record.hypotheses]


def _backward_share(record: PseudoLabelRecord, filters: FilterConfig) -> list[float | None]:
    return [
        # EOS stands for no sound, so its attention has no meaning.
        backward_share(
            each.token_seconds[: -1 if each.finish_reason == "eos" else None],
            filters.backward_tolerance_seconds,
        )
        if each.token_seconds
        else None
        for each in record.hypotheses
    ]


def _disagreement(record: PseudoLabelRecord, filters: FilterConfig) -> list[float | None]:
    logs = log_masses(record.hypotheses)
    texts = [_one_spaced(each.text) for each in record.hypotheses]
    value = None if logs is None else disagreement(texts, logs)
    return [value] * len(texts)


def _word_error_rate(record: PseudoLabelRecord, filters: FilterConfig) -> list[float | None]:
    reference = record.utterance.text
    return [
        None if reference is None else word_error_rate(reference, each.text)
        for each in record.hypotheses
    ]


_RATE = Measure("Characters a second", _speaking_rate)
FILTERS = (
    Filter("drop_unfinished", "max_steps", Measure("Cut short by max_tokens", _unfinished)),
    Filter("max_repeats", "loop", Measure("Repeats in succession", _repeats)),
    Filter(
        "max_compression_ratio",
        "compressible",
        Measure("Compression ratio", _compression_ratio),
    ),
    Filter("min_characters_per_second", "too_slow", _RATE, is_minimum=True),
    Filter("max_characters_per_second", "too_fast", _RATE),
    Filter(
        "min_mean_log_prob",
        "low_log_prob",
        Measure("log_prob a token", _mean_log_prob),
        is_minimum=True,
    ),
    Filter(
        "min_coverage", "low_coverage", Measure("Attention coverage", _coverage), is_minimum=True
    ),
    Filter(
        "max_backward_share",
        "backward_jumps",
        Measure("Share of backward jumps", _backward_share),
    ),
    Filter(
        "max_disagreement",
        "disagreement",
        Measure("Disagreement within the k best", _disagreement),
    ),
    Filter("max_wer", "high_wer", Measure("WER against the reference", _word_error_rate)),
)
