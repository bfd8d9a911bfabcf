"""Reasons not to learn from a hypothesis, and the one function that decides.

Every filter compares a measure of the hypothesis with a limit of `FilterConfig`. A hypothesis at
its limit is kept; one whose measure is unknown is kept. A measure looks at the record alone, never
at what another filter did, so filters may be named in any order and a stricter limit never keeps
more.
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
from tfkd.metrics import word_error_rate
from tfkd.records import Hypothesis, PseudoLabelRecord


@dataclass(frozen=True)
class Fault:
    """Why something is not learned from.

    Attributes:
      value: what was measured; None where the reason is no matter of more or less.
      threshold: the limit that `value` is beyond.
    """

    reason: str
    value: float | None = None
    threshold: float | None = None


class Judged(NamedTuple):
    """A hypothesis and what speaks against it: nothing, if it is kept."""

    hypothesis: Hypothesis
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Measure:
    """A number for each hypothesis of a record.

    Attributes:
      of: maps a record without duplicates to one value a hypothesis, None where it is unknown.
    """

    title: str
    of: Callable[[PseudoLabelRecord, FilterConfig], Sequence[float | None]]


@dataclass(frozen=True)
class Filter:
    """A limit on a measure.

    Attributes:
      setting: the field of `FilterConfig` that holds the limit.
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
    """Decides for each text that the teacher proposes whether it is learned from.

    Training and report both ask here, so they cannot disagree.

    Returns:
      The hypotheses of `merge_duplicates`, in that order, each with all that speaks against it.
    """
    record = merge_duplicates(record)
    faults: list[list[Fault]] = [[] for _ in record.hypotheses]
    for each in FILTERS:
        threshold = each.threshold(filters)
        if threshold is None:
            continue
        for found, value in zip(faults, each.measure.of(record, filters)):
            if each.refuses(value, filters):
                found.append(Fault(each.reason, value, threshold))
    return [Judged(h, tuple(found)) for h, found in zip(record.hypotheses, faults)]


def merge_duplicates(record: PseudoLabelRecord) -> PseudoLabelRecord:
    """Makes one hypothesis of those whose stored texts have the same words.

    A text can be spelled by many token sequences; its probability is the sum of theirs. The most
    probable of them stands for all, at the place of the one that ranked best. What was cut short is
    not merged with what ended: its log_prob is that of a beginning.
    """
    same: dict[tuple[str, str | None], list[Hypothesis]] = {}
    for hypothesis in record.hypotheses:
        key = (_one_spaced(hypothesis.text), hypothesis.finish_reason)
        same.setdefault(key, []).append(hypothesis)
    return replace(record, hypotheses=tuple(map(_merged, same.values())))


def known_log_probs(hypotheses: Sequence[Hypothesis]) -> list[float] | None:
    """The log_prob of each, or None where that of one is unknown."""
    known = [each.log_prob for each in hypotheses if each.log_prob is not None]
    return known if len(known) == len(hypotheses) else None


def posterior(log_probs: Sequence[float], temperature: float = 1.0) -> list[float]:
    """Softmax of log_probs / temperature."""
    best = max(log_probs)
    masses = [math.exp((log_prob - best) / temperature) for log_prob in log_probs]
    return [mass / sum(masses) for mass in masses]


def successive_repeats(words: Sequence[str]) -> int:
    """How often one and the same run of words follows itself: 1 if none does, 0 without words."""
    most = min(1, len(words))
    for period in range(1, len(words) // 2 + 1):
        matches = 0
        for earlier, later in zip(words, words[period:]):
            matches = matches + 1 if earlier == later else 0
            most = max(most, 1 + matches // period)
    return most


def compression_ratio(text: str) -> float:
    """Bytes / bytes after zlib: the measure and the limit of 2.4 are those of Radford et al. 2022.

    References:
      Radford et al. 2022, "Robust speech recognition via large-scale weak supervision",
      arXiv:2212.04356, section 4.5.
    """
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def backward_share(seconds: Sequence[float], tolerance_seconds: float) -> float:
    """Share of steps from one token to the next where attention falls back by more than allowed."""
    falls = [earlier - later > tolerance_seconds for earlier, later in pairwise(seconds)]
    return sum(falls) / max(1, len(falls))


def disagreement(texts: Sequence[str], log_probs: Sequence[float]) -> float:
    """Expected edit distance of two texts drawn from the posterior, in characters / longer text.

    It is the risk that minimum Bayes risk decoding minimises (Goel and Byrne 2000, "Minimum
    Bayes-risk automatic speech recognition"), averaged over the texts instead.
    """
    shares = posterior(log_probs)
    return 2 * sum(
        shares[i] * shares[j] * Levenshtein.normalized_distance(texts[i], texts[j])
        for i, j in combinations(range(len(texts)), 2)
    )


def _one_spaced(text: str) -> str:
    """The text as it is stored, but for the number of spaces that tokens may spell."""
    return " ".join(text.split())


def _merged(same: Sequence[Hypothesis]) -> Hypothesis:
    log_probs = known_log_probs(same)
    if len(same) == 1 or log_probs is None:
        return same[0]
    best = max(log_probs)
    total = best + math.log(sum(math.exp(log_prob - best) for log_prob in log_probs))
    return replace(same[log_probs.index(best)], log_prob=total)


# The measures: one value a hypothesis.


def _unfinished(record: PseudoLabelRecord, filters: FilterConfig) -> list[float | None]:
    return [
        None if each.finish_reason is None else float(each.finish_reason != "eos")
        for each in record.hypotheses
    ]


def _repeats(record: PseudoLabelRecord, filters: FilterConfig) -> list[float | None]:
    return [successive_repeats(each.text.split()) for each in record.hypotheses]


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
        # EOS stands for no sound, so where attention looks for it says nothing.
        backward_share(
            each.token_seconds[: -1 if each.finish_reason == "eos" else None],
            filters.backward_tolerance_seconds,
        )
        if each.token_seconds
        else None
        for each in record.hypotheses
    ]


def _disagreement(record: PseudoLabelRecord, filters: FilterConfig) -> list[float | None]:
    log_probs = known_log_probs(record.hypotheses)
    texts = [_one_spaced(each.text) for each in record.hypotheses]
    value = None if log_probs is None else disagreement(texts, log_probs)
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
