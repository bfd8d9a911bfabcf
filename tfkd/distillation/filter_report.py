"""Measures what the filters remove from a store of pseudo labels, and finds its worst utterances.

The store is read twice, record by record, so it need not fit into memory: first for the numbers and
the ids of the worst utterances, then for the records of these.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tfkd.config import FilterConfig
from tfkd.distillation.filters import FILTERS, Filter, Judged, Measure, judge, merge_duplicates
from tfkd.metrics import count_word_errors, rate_with_interval
from tfkd.records import PseudoLabelRecord, Store

MEASURES: tuple[Measure, ...] = tuple(dict.fromkeys(each.measure for each in FILTERS))


@dataclass(frozen=True)
class Extent:
    """The size and the error rate of a store, or of the part of it that filters keep.

    Attributes:
      utterances, hypotheses: their numbers; hypotheses of equal text count once.
      hours: duration of the utterances.
      wer: (rate, low, high) of the best kept hypothesis of each utterance that has a reference,
        with the 95 % interval; None where no utterance has one.
      scored: number of utterances that have a reference.
    """

    utterances: int
    hypotheses: int
    hours: float
    wer: tuple[float, float, float] | None
    scored: int


@dataclass(frozen=True)
class Effect:
    """What one filter keeps if it is the only one, and how many hypotheses it removes."""

    filter: Filter
    threshold: float
    kept: Extent
    removed_hypotheses: int


@dataclass(frozen=True)
class Distribution:
    """The values of a measure over all hypotheses.

    Attributes:
      values: [V] float32, of the hypotheses for which the measure is known.
      unknown: number of the other hypotheses.
    """

    measure: Measure
    values: np.ndarray
    unknown: int


@dataclass(frozen=True)
class Example:
    """An utterance that is among the worst by at least one measure.

    Attributes:
      judged: its hypotheses, best first, with the reasons against each.
      values: for each reason, the value that its measure has for the best hypothesis.
    """

    record: PseudoLabelRecord
    judged: list[Judged]
    values: dict[str, float]


@dataclass(frozen=True)
class FilterReport:
    """Everything that the page shows.

    Attributes:
      labels: name of the store's folder.
      before, after: the store as it is, and what all filters together keep.
      effects: one for each filter that is on.
      distributions: one for each measure, whether a filter limits it or not.
    """

    labels: str
    filters: FilterConfig
    before: Extent
    after: Extent
    effects: list[Effect]
    distributions: list[Distribution]
    examples: list[Example]


def report_filters(
    store: Store, filters: FilterConfig, *, examples_per_reason: int
) -> FilterReport:
    """Measures every hypothesis of `store`, also by the filters that are off.

    Args:
      store: pseudo labels.
      filters: the limits to try.
      examples_per_reason: how many of the worst utterances to show for each reason.
    Raises:
      RecordError: if a shard is damaged.
    """
    before, after = _Tally(), _Tally()
    alone = {each.reason: _Tally() for each in FILTERS if each.threshold(filters) is not None}
    removed: Counter[str] = Counter()
    columns = {measure: _Column() for measure in MEASURES}
    worst = {each.reason: _Worst(examples_per_reason) for each in FILTERS}
    for record in _labels(store):
        judged = judge(record, filters)
        errors = _BestErrors(record, judged)
        before.add(record, [True] * len(judged), errors)
        after.add(record, [not each.faults for each in judged], errors)
        for reason, tally in alone.items():
            is_removed = [any(f.reason == reason for f in each.faults) for each in judged]
            tally.add(record, [not each for each in is_removed], errors)
            removed[reason] += sum(is_removed)
        for measure, values in _measured(record, filters).items():
            columns[measure].add(values)
            for each in FILTERS:
                if each.measure is measure:
                    worst[each.reason].add(record.utterance_id, _badness(each, values[0]))
    return FilterReport(
        labels=store.directory.name,
        filters=filters,
        before=before.extent(),
        after=after.extent(),
        effects=[
            Effect(each, threshold, alone[each.reason].extent(), removed[each.reason])
            for each in FILTERS
            if (threshold := each.threshold(filters)) is not None
        ],
        distributions=[column.distribution(measure) for measure, column in columns.items()],
        examples=_examples(store, filters, worst),
    )


def _labels(store: Store) -> Iterator[PseudoLabelRecord]:
    return (record for record in store.records() if isinstance(record, PseudoLabelRecord))


def _measured(
    record: PseudoLabelRecord, filters: FilterConfig
) -> dict[Measure, Sequence[float | None]]:
    record = merge_duplicates(record)
    return {measure: measure.of(record, filters) for measure in MEASURES}


def _badness(each: Filter, value: float | None) -> float | None:
    return -value if each.is_minimum and value is not None else value


def _examples(store: Store, filters: FilterConfig, worst: dict[str, _Worst]) -> list[Example]:
    """The records of the worst utterances, reason by reason, the worst first."""
    places: dict[str, list[str]] = {}
    for reason, each in worst.items():
        for utterance_id in each.ids():
            places.setdefault(utterance_id, []).append(reason)
    found = {}
    for record in _labels(store):
        if record.utterance_id not in places:
            continue
        measured = _measured(record, filters)
        values = {
            each.reason: value
            for each in FILTERS
            if each.reason in places[record.utterance_id]
            and (value := measured[each.measure][0]) is not None
        }
        found[record.utterance_id] = Example(record, judge(record, filters), values)
    return [found[utterance_id] for utterance_id in places]


class _BestErrors:
    """Word errors of one record's hypotheses, each counted at most once, when it is asked for."""

    def __init__(self, record: PseudoLabelRecord, judged: Sequence[Judged]) -> None:
        self._reference, self._judged = record.utterance.text, judged
        self._counts: dict[int, np.ndarray] = {}

    def of(self, rank: int) -> np.ndarray | None:
        """Counts [4], or None without a reference."""
        if self._reference is None:
            return None
        if rank not in self._counts:
            text = self._judged[rank].hypothesis.text
            (counts,) = count_word_errors([self._reference], [text])
            self._counts[rank] = counts
        return self._counts[rank]


@dataclass
class _Tally:
    """Adds records up to an Extent."""

    utterances: int = 0
    hypotheses: int = 0
    samples: Counter[int] = field(default_factory=Counter)  # by sample rate in Hz
    counts: array = field(default_factory=lambda: array("q"))

    def add(self, record: PseudoLabelRecord, is_kept: Sequence[bool], errors: _BestErrors) -> None:
        """Counts a record, unless none of its hypotheses is kept."""
        if not any(is_kept):
            return
        self.utterances += 1
        self.hypotheses += sum(is_kept)
        self.samples[record.utterance.sample_rate_hz] += record.utterance.num_samples
        counts = errors.of(is_kept.index(True))
        if counts is not None:
            self.counts.extend(counts.tolist())

    def extent(self) -> Extent:
        """The sum of what was added."""
        counts = np.array(self.counts, np.int64).reshape(-1, 4)
        seconds = sum(samples / rate_hz for rate_hz, samples in self.samples.items())
        return Extent(
            self.utterances,
            self.hypotheses,
            seconds / 3600,
            rate_with_interval(counts) if len(counts) else None,
            len(counts),
        )


@dataclass
class _Column:
    """Collects a Distribution in four bytes a hypothesis."""

    values: array = field(default_factory=lambda: array("f"))
    unknown: int = 0

    def add(self, values: Sequence[float | None]) -> None:
        """Adds the hypotheses of one record."""
        known = [value for value in values if value is not None]
        self.values.extend(known)
        self.unknown += len(values) - len(known)

    def distribution(self, measure: Measure) -> Distribution:
        """The distribution of the values that were added."""
        return Distribution(measure, np.array(self.values, np.float32), self.unknown)


class _Worst:
    """The `count` utterances with the worst value of a measure: the higher, the worse."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._heap: list[tuple[float, str]] = []
        self._least = float("inf")

    def add(self, utterance_id: str, badness: float | None) -> None:
        """Adds an utterance, unless its value is unknown."""
        if badness is None:
            return
        self._least = min(self._least, badness)
        heapq.heappush(self._heap, (badness, utterance_id))
        if len(self._heap) > self._count:
            heapq.heappop(self._heap)

    def ids(self) -> list[str]:
        """The ids, worst first, without those that are as good as the best utterance."""
        ranked = sorted(self._heap, key=lambda item: (-item[0], item[1]))
        return [utterance_id for badness, utterance_id in ranked if badness > self._least]
